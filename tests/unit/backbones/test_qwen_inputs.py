import json
import pickle

import numpy as np
import pytest
import torch
from transformers import Qwen2TokenizerFast, Qwen2VLImageProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from vla_kit.backbones.qwen_inputs import QwenInputs, mrope_positions
from vla_kit.backbones.vocabulary import train_tokenizer
from vla_kit.errors import CheckpointError, DtypeError, SettingError, ShapeError
from vla_kit.protocols import Observation

SPECIAL = ["<pad>", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|ego_start|>", "<|ego_end|>"]


def build(tokenizer=None, **changes):
    settings = {
        "image_processor": Qwen2VLImageProcessor(patch_size=8, merge_size=2, temporal_patch_size=2),
        "vision_token_ids": (1, 2, 3),
        "context_length": 60,
        "image_size": 32,
    } | changes
    trained = train_tokenizer(["pick up the cup"] * 2, special_tokens=SPECIAL, vocabulary_size=300)
    return QwenInputs(tokenizer or trained, **settings)


def image(height=32, image_width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, image_width), dtype=torch.uint8, generator=generator)


def test_positions_by_hand():
    expected = [
        [0, 1, 1, 1, 1, 1, 1, 4, 5],  # an image of 2 x 3 advances by 3
        [0, 1, 1, 1, 2, 2, 2, 4, 5],
        [0, 1, 2, 3, 1, 2, 3, 4, 5],
    ]
    assert mrope_positions([1, (2, 3), 2]).tolist() == expected


def test_sequence_by_hand():
    inputs = build()
    prompt = inputs.tokenizer.encode("cup").ids
    tensors = inputs([Observation(prompt="cup", views={"ego": image()}), Observation(prompt="cup", views={})])
    assert tensors["input_ids"][0].tolist() == [4, 1, 2, 2, 2, 2, 3, 5, *prompt]
    assert tensors["input_ids"][1, : len(prompt)].tolist() == prompt
    assert tensors["attention_mask"].sum(1).tolist() == [8 + len(prompt), len(prompt)]
    assert tensors["attention_mask"][1, : len(prompt)].all()  # padding is on the right
    assert tensors["image_grid_thw"].tolist() == [[1, 4, 4]]
    assert tensors["pixel_values"].shape == (16, 3 * 2 * 8 * 8)
    assert tensors["position_ids"].shape == (3, *tensors["input_ids"].shape)


def test_patches_undo_to_the_image():
    inputs = build(
        image_processor=Qwen2VLImageProcessor(
            patch_size=8, merge_size=2, temporal_patch_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3
        )
    )
    picture = image()
    patches = inputs([Observation(prompt="", views={"ego": picture})])["pixel_values"]
    blocks = patches.reshape(2, 2, 2, 2, 3, 2, 8, 8)  # block row, block column, row, column, channel, time, y, x
    undone = blocks[:, :, :, :, :, 0].permute(4, 0, 2, 5, 1, 3, 6).reshape(3, 32, 32)
    torch.testing.assert_close(undone, picture / 255 * 2 - 1)


def test_other_sizes_are_resized_to_the_square():
    tensors = build()([Observation(prompt="", views={"ego": image(48, 64)})])
    assert tensors["image_grid_thw"].tolist() == [[1, 4, 4]]


def test_native_size_keeps_the_aspect_ratio():
    processor = Qwen2VLImageProcessor(
        patch_size=8, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 256, "longest_edge": 4096}
    )
    inputs = build(image_size=None, image_processor=processor)
    tensors = inputs(
        [Observation(prompt="a", views={"ego": image(32, 64)}), Observation(prompt="a", views={"ego": image(32, 32)})]
    )
    assert tensors["image_grid_thw"].tolist() == [[1, 4, 8], [1, 4, 4]]
    assert (tensors["input_ids"] == 2).sum(1).tolist() == [8, 4]


@pytest.mark.parametrize("processor_class", [Qwen2VLImageProcessor, Qwen2VLImageProcessorPil])
def test_golden_pixels_of_the_real_processor(shared_data, processor_class):
    golden = np.load(shared_data / "processor" / "qwen3vl_two_image_golden.npz")
    settings = json.loads((shared_data / "processor" / "qwen3vl_processor_config.json").read_text())["image_processor"]
    settings.pop("image_processor_type")
    merged = (golden["grid"].prod(1) // 4).tolist()
    inputs = build(image_processor=processor_class(**settings), image_size=None, context_length=1000)
    pixels = torch.from_numpy(golden["pv"])
    undone = []  # the images themselves are not stored: undo the patches, and the round trip must be exact
    for (_, rows, columns), part in zip(
        golden["grid"].tolist(), pixels.split(golden["grid"].prod(1).tolist()), strict=True
    ):
        blocks = part.reshape(rows // 2, columns // 2, 2, 2, 3, 2, 16, 16)[:, :, :, :, :, 0]
        picture = blocks.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * 16, columns * 16)
        undone.append(((picture + 1) / 2 * 255).round().to(torch.uint8))
    tensors = inputs([Observation(prompt="", views={"ego": picture}) for picture in undone])
    assert tensors["image_grid_thw"].tolist() == golden["grid"].tolist()
    torch.testing.assert_close(tensors["pixel_values"], pixels)
    assert (tensors["input_ids"] == 2).sum(1).tolist() == merged


def test_ids_of_the_real_tokenizer(shared_data):
    tokenizer = Qwen2TokenizerFast.from_pretrained(shared_data / "qwen3_tokenizer").backend_tokenizer
    known = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens(["<|ego_start|>", "<|ego_end|>"])
    ids = tuple(tokenizer.token_to_id(f"<|{name}|>") for name in ("vision_start", "image_pad", "vision_end"))
    assert ids == (151652, 151655, 151653)
    inputs = build(tokenizer, vision_token_ids=ids, context_length=4096)
    goldens = json.loads((shared_data / "processor" / "qwen_token_goldens.json").read_text())["items"]
    texts = [item for item in goldens if item["text"] and 151655 not in item["qwen3"]]
    assert len(texts) > 20
    tensors = inputs([Observation(prompt=item["text"], views={}) for item in texts])
    for row, mask, item in zip(tensors["input_ids"], tensors["attention_mask"], texts, strict=True):
        assert row[mask].tolist() == item["qwen3"]
    with_view = inputs([Observation(prompt="Hello, world!", views={"ego": image()})])["input_ids"][0].tolist()
    assert with_view == [known, 151652, *[151655] * 4, 151653, known + 1, 9707, 11, 1879, 0]


def test_light_enough_for_workers():
    inputs = build()
    observations = [Observation(prompt="cup", views={"ego": image()})]
    copy = pickle.loads(pickle.dumps(inputs))
    for name, tensor in inputs(observations).items():
        assert torch.equal(copy(observations)[name], tensor)


def test_prepared_tensors_do_not_share_memory():
    inputs = build()
    observation = Observation(prompt="cup", views={})
    inputs([observation])["position_ids"].fill_(-1)
    assert inputs([observation])["position_ids"].min() == 0


@pytest.mark.parametrize(
    ("observations", "error", "text"),
    [
        ([], ShapeError, "observations must hold at least one observation, got 0"),
        ([Observation(prompt="", views={})], SettingError, "must make 1 to 60 tokens, got 0 in observation 0"),
        ([Observation(prompt="1" * 61, views={})], SettingError, "must make 1 to 60 tokens, got 61 in observation 0"),
        ([Observation(prompt="a <|image_pad|>", views={})], SettingError, "prompt must not contain '<.image_pad.>'"),
        ([Observation(prompt="", views={"wrist": image()})], SettingError, r"vocabulary \['ego'\], got 'wrist'"),
        ([Observation(prompt="", views={"ego": image().float()})], DtypeError, "uint8 .* got torch.float32 for 'ego'"),
        (
            [Observation(prompt="", views={"ego": image()[:1]})],
            ShapeError,
            r"\(frame, 3, height, width\), got \(1, 32, 32\)",
        ),
    ],
)
def test_refused_observations(observations, error, text):
    with pytest.raises(error, match=text):
        build()(observations)


def test_refused_settings():
    with pytest.raises(SettingError, match=r"image_size must be a multiple .*\(16\), got 40. Use 32"):
        build(image_size=40)
    with pytest.raises(SettingError, match="history must be 'images' without a video_token_id, got 'video'"):
        build(history="video")
    with pytest.raises(CheckpointError, match=r"vision token ids .* got none for .999."):
        build(vision_token_ids=(1, 999, 3))


def test_frames_of_native_size_keep_the_aspect_ratio():
    processor = Qwen2VLImageProcessor(
        patch_size=8, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 256, "longest_edge": 4096}
    )
    settings = {"image_size": None, "image_processor": processor, "history": "video", "video_token_id": 6}
    tokenizer = train_tokenizer([], special_tokens=[*SPECIAL, "<|video_pad|>"], vocabulary_size=300)
    inputs = build(tokenizer, context_length=100, **settings)
    views = {"ego": torch.stack([image(32, 64, seed) for seed in range(3)])}
    tensors = inputs([Observation(prompt="a", views=views, frame_rate_hz=1.0)])
    assert tensors["video_grid_thw"].tolist() == [[2, 4, 8]]
    assert (tensors["input_ids"] == 6).sum() == 2 * 2 * 4
