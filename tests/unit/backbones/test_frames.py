import pytest
import torch
from transformers import Qwen2VLImageProcessor, Qwen3VLVideoProcessor

from vla_kit.backbones.frames import as_images, as_videos, merge_frames, patch_seconds


def frames(count, level=0):
    return (torch.arange(count, dtype=torch.uint8) + level)[:, None, None, None].expand(count, 3, 4, 4)


def written(entries):
    return [f"{entry.before}{entry.tag}:{int(entry.frames[0, 0, 0, 0])}" for entry in entries]


def test_images_go_instant_by_instant_and_the_newest_frames_are_one_instant():
    entries = as_images({"ego": frames(3), "wrist": frames(2, 10), "top": frames(1, 20)[0]})
    assert written(entries) == [
        *("<|frame_0|>ego:0", "<|frame_1|>ego:1", "wrist:10"),
        *("<|frame_2|>ego:2", "wrist:11", "top:20"),
    ]
    assert all(entry.frames.shape == (1, 3, 4, 4) and not entry.video for entry in entries)


def test_one_instant_has_a_tag_only_where_it_is_a_history():
    assert written(as_images({"ego": frames(1)[0], "wrist": frames(1, 10)[0]})) == ["ego:0", "wrist:10"]
    assert written(as_images({"ego": frames(1), "wrist": frames(1, 10)[0]})) == ["<|frame_0|>ego:0", "wrist:10"]
    assert as_images({}) == as_videos({}) == []


def test_videos_go_view_by_view():
    entries = as_videos({"ego": frames(3), "top": frames(1, 20)[0]})
    assert [(entry.tag, entry.video, len(entry.frames), entry.before) for entry in entries] == [
        ("ego", True, 3, ""),
        ("top", False, 1, ""),
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 6])
@pytest.mark.parametrize("temporal", [2, 3])
def test_merged_patches_are_those_of_transformers(count, temporal):
    settings = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": temporal, "image_mean": [0.3] * 3}
    video = torch.randint(0, 256, (count, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = Qwen2VLImageProcessor(**settings)(list(video), do_resize=False, return_tensors="pt")["pixel_values"]
    merged = merge_frames(images.reshape(count, 24, -1), temporal_patch_size=temporal)
    processor = Qwen3VLVideoProcessor(**settings, image_std=Qwen2VLImageProcessor.image_std)
    made = processor([video], do_resize=False, do_sample_frames=False, cap_pixels_per_frame=False, return_tensors="pt")
    assert made["video_grid_thw"].tolist() == [[-(-count // temporal), 4, 6]]
    torch.testing.assert_close(merged, made["pixel_values_videos"])


def test_seconds_by_hand():
    assert patch_seconds(1, rate_hz=2, temporal_patch_size=2) == [0.0]
    assert patch_seconds(4, rate_hz=2, temporal_patch_size=2) == [0.25, 1.25]
    assert patch_seconds(4, rate_hz=1, temporal_patch_size=3) == [1.0, 3.0]
