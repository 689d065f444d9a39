"""Views of several frames, against the processors and the position rules of transformers, token for token."""

import copy
import pickle

import pytest
import torch
from test_qwen_vl import build, image
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from transformers.video_utils import VideoMetadata

from vla_kit.backbones.qwen_inputs import mrope_positions
from vla_kit.backbones.qwen_vl import QwenVLBackbone
from vla_kit.backbones.vision_cache import cache_vision
from vla_kit.errors import SettingError
from vla_kit.protocols import Observation

FAMILIES = ["qwen2_5_vl", "qwen3_vl", "qwen3_5"]
RATE_HZ = 2.0


def clip(count, seed=0):
    return torch.stack([image(100 * seed + index) for index in range(count)])


def observation(prompt, rate_hz=RATE_HZ, **views):
    return Observation(prompt=prompt, views=views, frame_rate_hz=rate_hz)


MIXED = [
    observation("pick up the cup", ego=clip(4), wrist=image(50)),
    observation("push the puck to the goal please", None),
    observation("push", wrist=clip(3, 1), ego=clip(1, 2)),
    observation("pick up", None, ego=image(51)),
]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def backbone(family):
    return build(family, history="video")


def by_transformers(backbone, observations, view_text, *, rate_hz=RATE_HZ):
    """What the model's own processor makes of the same observations; `view_text` writes a view."""
    older = backbone.model.config.model_type == "qwen2_5_vl"
    pixels = backbone.inputs.image_processor
    sizes = {name: getattr(pixels, name) for name in ("patch_size", "merge_size", "temporal_patch_size")}
    sizes |= {"image_mean": pixels.image_mean, "image_std": pixels.image_std}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backbone.tokenizer, pad_token="<|endoftext|>")
    kind, frames = (Qwen2_5_VLProcessor, Qwen2VLVideoProcessor) if older else (Qwen3VLProcessor, Qwen3VLVideoProcessor)
    processor = kind(image_processor=pixels, tokenizer=tokenizer, video_processor=frames(**sizes))
    text, images, videos = [], [], []
    for one in observations:
        text.append("".join(view_text(tag, view) for tag, view in one.views.items()) + one.prompt)
        for view in one.views.values():
            (videos if view.ndim == 4 else images).append(view)
    metadata = [
        VideoMetadata(total_num_frames=len(video), fps=rate_hz, frames_indices=list(range(len(video))))
        for video in videos
    ]
    made = processor(
        text=text,
        images=images or None,
        videos=videos or None,
        video_metadata=[metadata],
        do_sample_frames=False,
        do_resize=False,
        padding=True,
        padding_side="right",
        return_tensors="pt",
        **({} if older else {"cap_pixels_per_frame": False}),
    )
    seconds = made.pop("second_per_grid_ts", None)
    positions, _ = backbone.model.model.get_rope_index(
        made["input_ids"],
        made["mm_token_type_ids"],
        image_grid_thw=made.get("image_grid_thw"),
        video_grid_thw=made.get("video_grid_thw"),
        attention_mask=made["attention_mask"],
        **({"second_per_grid_ts": seconds} if older else {}),
    )
    return made, positions


def as_video(family):
    def write(tag, view):
        pad = "<|video_pad|>" if view.ndim == 4 else "<|image_pad|>"
        bare = view.ndim == 4 and family != "qwen2_5_vl"  # the processor writes the vision tokens of each patch
        return f"<|{tag}_start|>" + (pad if bare else f"<|vision_start|>{pad}<|vision_end|>") + f"<|{tag}_end|>"

    return write


def test_video_tokens_patches_positions_and_states_are_those_of_transformers(family, backbone):
    inputs = backbone.prepare(MIXED)
    made, positions = by_transformers(backbone, MIXED, as_video(family))
    mask = inputs["attention_mask"]
    assert torch.equal(mask, made["attention_mask"].bool())
    assert torch.equal(inputs["input_ids"][mask], made["input_ids"][mask])
    assert torch.equal(inputs["position_ids"][:, mask], positions[:, mask])
    for name in ("image_grid_thw", "video_grid_thw"):
        assert torch.equal(inputs[name], made[name])
    for name in ("pixel_values", "pixel_values_videos"):
        torch.testing.assert_close(inputs[name], made[name])
    context = backbone(inputs)
    hidden = backbone.model.model(**made, position_ids=positions).last_hidden_state
    torch.testing.assert_close(context.hidden[mask], hidden[mask])


@pytest.mark.parametrize("rate_hz", [0.7, 1.0, 3.0, 30.0])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_any_rate_and_number_of_frames(family, backbone, rate_hz, count):
    seen = [observation("push", rate_hz, ego=clip(count))]
    inputs = backbone.prepare(seen)
    made, positions = by_transformers(backbone, seen, as_video(family), rate_hz=rate_hz)
    assert torch.equal(inputs["input_ids"], made["input_ids"])
    assert torch.equal(inputs["position_ids"], positions)


def test_images_are_tagged_frame_by_frame_as_one_text_would_be(family):
    backbone = build(family)
    inputs = backbone.prepare(MIXED)
    texts = [
        "".join(f"<|frame_{index}|>[ego]" for index in range(3)) + "<|frame_3|>[ego][wrist]pick up the cup",
        "push the puck to the goal please",
        "<|frame_0|>[wrist]<|frame_1|>[wrist]<|frame_2|>[wrist][ego]push",
        "[ego]pick up",
    ]
    pads = "<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>"
    for row, mask, text in zip(inputs["input_ids"], inputs["attention_mask"], texts, strict=True):
        for tag in ("ego", "wrist"):
            text = text.replace(f"[{tag}]", f"<|{tag}_start|>{pads}<|{tag}_end|>")
        assert row[mask].tolist() == backbone.tokenizer.encode(text).ids
    order = [*clip(4), image(50), *clip(3, 1), *clip(1, 2), image(51)]
    expected = backbone.inputs.image_processor(order, do_resize=False, return_tensors="pt")
    torch.testing.assert_close(inputs["pixel_values"], expected["pixel_values"])
    types = (inputs["input_ids"] == backbone.model.config.image_token_id).int()
    mask = inputs["attention_mask"]
    positions, _ = backbone.model.model.get_rope_index(
        inputs["input_ids"], types, inputs["image_grid_thw"], attention_mask=mask.long()
    )
    assert torch.equal(inputs["position_ids"][:, mask], positions[:, mask])


@pytest.mark.parametrize("history", ["images", "video"])
def test_the_order_of_frames_reaches_the_states_and_neighbours_do_not(family, history):
    backbone = build(family, history=history)
    together = backbone(backbone.prepare(MIXED))
    for index, one in enumerate(MIXED):
        alone = backbone(backbone.prepare([one]))
        torch.testing.assert_close(alone.hidden[0], together.hidden[index, together.mask[index]], atol=1e-5, rtol=1e-5)
    backwards = observation("pick up the cup", ego=clip(4).flip(0), wrist=image(50))
    changed = backbone(backbone.prepare([backwards])).hidden[0, -1]
    assert not torch.allclose(changed, together.hidden[0, together.mask[0]][-1], atol=1e-4)


def test_a_video_takes_half_the_tokens(family):
    images, video = (build(family, history=history).prepare(MIXED[:1]) for history in ("images", "video"))
    assert images["pixel_values"].shape[0] == (4 + 1) * 16
    assert (video["pixel_values"].shape[0], video["pixel_values_videos"].shape[0]) == (1 * 16, 2 * 16)
    config = build(family).model.config
    pads = torch.tensor([config.image_token_id, config.video_token_id])
    assert [int(torch.isin(one["input_ids"], pads).sum()) for one in (images, video)] == [20, 12]


def test_without_frames_both_are_the_same(family):
    views = [one for one in MIXED if all(view.ndim == 3 for view in one.views.values())]
    images, video = (build(family, history=history).prepare(views) for history in ("images", "video"))
    assert images.keys() == video.keys()
    for name, tensor in images.items():
        assert torch.equal(tensor, video[name])


@pytest.mark.parametrize("history", ["images", "video"])
def test_gradients_reach_the_vision_tower_through_frames(family, history):
    backbone = build(family, history=history)
    backbone(backbone.prepare(MIXED)).hidden.square().sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.model.model.visual.parameters())


@pytest.mark.parametrize("history", ["images", "video"])
def test_cached_vision_tokens_are_those_of_the_tower(family, history, tmp_path):
    plain = build(family, history=history)
    cached = cache_vision(copy.deepcopy(plain), folder=tmp_path)
    cached.model.model.visual.requires_grad_(False)
    for _ in range(2):  # written, then read
        mask = plain(plain.prepare(MIXED)).mask
        wanted, got = (one(one.prepare(MIXED)).hidden[mask] for one in (plain, cached))
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    # 10 images; or two images, and 2 + 2 + 1 temporal patches
    assert len(list(tmp_path.rglob("*.safetensors"))) == (10 if history == "images" else 7)


def test_frames_are_resized_and_inputs_travel_to_workers(family, backbone):
    large = torch.stack([image(index, 48) for index in range(3)])
    observations = [observation("push", ego=large)]
    inputs = backbone.prepare(observations)
    assert inputs["video_grid_thw"].tolist() == [[2, 4, 4]]
    other = pickle.loads(pickle.dumps(backbone.inputs))(observations)
    assert all(torch.equal(other[name], tensor) for name, tensor in inputs.items())


def test_positions_of_a_video_by_hand():
    expected = [
        [0, 1, 1, 1, 1, 4, 4, 4, 4, 3],  # time: two patches, 3 apart; text goes on after the longer side
        [0, 1, 1, 2, 2, 1, 1, 2, 2, 3],
        [0, 1, 2, 1, 2, 1, 2, 1, 2, 3],
    ]
    assert mrope_positions([1, (2, 2, (0, 3)), 1]).tolist() == expected


def test_refused(backbone):
    with pytest.raises(SettingError, match=r"frame_rate_hz must be given .* got None for 'ego' in observation 1"):
        backbone.prepare([MIXED[0], observation("push", None, ego=clip(2))])
    backbone.prepare([observation("push", None, ego=clip(1))])  # one frame needs no rate
    for rate_hz in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(SettingError, match=rf"frame_rate_hz must be above 0 and finite, got {rate_hz}"):
            backbone.prepare([observation("push", rate_hz, ego=clip(2))])
    with pytest.raises(SettingError, match=r"prompt must not contain '<.video_pad.>', got it in observation 0"):
        backbone.prepare([observation("push <|video_pad|>")])
    with pytest.raises(SettingError, match=r"history must be one of \['images', 'video'\], got 'clips'"):
        build("qwen3_vl", history="clips")


@pytest.mark.parametrize("history", ["images", "video"])
def test_a_saved_backbone_keeps_its_layout(family, history, tmp_path):
    backbone = build(family, history=history)
    backbone.save_config(tmp_path)
    again = QwenVLBackbone.from_config(tmp_path, **backbone.init_args())
    assert again.inputs.history == history
