"""Conversations against the templates, the processors and the golden ids of the real models."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import (
    Qwen2_5_VLProcessor,
    Qwen2TokenizerFast,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from vla_kit.backbones.qwen_inputs import QwenInputs
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.errors import SettingError
from vla_kit.protocols import Conversation, Message, Observation, Picture

TEMPLATES = ["qwen2_5_vl", "qwen3_vl", "qwen3_5_nothink", "qwen3_5_think"]
IDS = (151652, 151655, 151653)
VIDEO = 151656
END, LINE = 151645, 198


@pytest.fixture(scope="module")
def tokenizer(request):
    shared_data = request.getfixturevalue("shared_data")
    return Qwen2TokenizerFast.from_pretrained(shared_data / "qwen3_tokenizer")


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    copied = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copied.add_special_tokens([f"<|{tag}_{end}|>" for tag in ("front", "left") for end in ("start", "end")])
    return copied


@pytest.fixture
def build(shared_data, vocabulary):
    def make(template, **settings):
        chosen = {
            "image_processor": image_processor(),
            "vision_token_ids": IDS,
            "video_token_id": VIDEO,
            "context_length": 4096,
            "chat_template": (shared_data / "templates" / f"{template}.jinja").read_text(),
            "tokens_per_second": 2.0 if template == "qwen2_5_vl" else None,
        }
        return QwenInputs(vocabulary, **(chosen | settings))

    return make


def image_processor():
    return Qwen2VLImageProcessor(
        patch_size=16,
        merge_size=2,
        size={"shortest_edge": 64 * 64, "longest_edge": 4096 * 4096},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def picture(*shape, seed=0):
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def image(height=64, width=96, **settings):
    return Picture(pixels=picture(3, height, width), **settings)


def user(*content):
    return Message(role="user", content=content)


def answer(text):
    return Message(role="assistant", content=(text,))


def talk(*messages):
    return Conversation(messages=messages)


TALKS = {
    "words": talk(user("What is a cup?"), answer("A vessel.")),
    "system": talk(Message(role="system", content=("Be brief.",)), user("Hi, größe 12?"), answer("Zwölf 💩.")),
    "image": talk(user(image(), "\nWhat is it?"), answer("noise")),
    "images": talk(user("Compare", image(), " with ", image(96, 64), "."), answer("Both are noise.")),
    "turns": talk(user(image(), "Is it red?"), answer("no"), user("Then blue", image(), "?"), answer("yes\n- it is")),
    "asked": talk(user(image(), "Is it red?"), answer("no"), user("Why?")),
}


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", TALKS)
def test_ids_are_those_of_the_models_own_processor(name, template, build, tokenizer):
    inputs = build(template)
    reference = Qwen3VLProcessor(image_processor(), tokenizer, Qwen3VLVideoProcessor(), inputs.chat_template)
    messages, images = [], []
    for message in TALKS[name].messages:
        parts = []
        for part in message.content:
            if isinstance(part, str):
                parts.append({"type": "text", "text": part})
            else:
                parts.append({"type": "image"})
                images.append(part.pixels)
        text = message.role == "assistant" and message.content[0]  # as Qwen's own training code gives it
        messages.append({"role": message.role, "content": text or parts})
    text = reference.apply_chat_template(messages, tokenize=False)
    expected = reference(text=[text], images=images or None, return_tensors="pt")
    found = inputs([TALKS[name]])
    assert found["input_ids"].tolist() == expected["input_ids"].tolist()
    if images:
        torch.testing.assert_close(found["pixel_values"], expected["pixel_values"])
        assert found["image_grid_thw"].tolist() == expected["image_grid_thw"].tolist()


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_video_is_written_as_the_processor_does(template, build, tokenizer):
    frames = picture(5, 3, 64, 64)
    inputs = build(template)
    conversation = talk(
        user("Look: ", Picture(pixels=frames, rate_hz=2.0), "what", image(), "?"), answer("noise"), user("Sure?")
    )
    found = inputs([conversation], with_labels=True)
    if template == "qwen2_5_vl":
        videos = Qwen2VLVideoProcessor(patch_size=16, merge_size=2, size={"shortest_edge": 4096, "longest_edge": 2**25})
        reference = Qwen2_5_VLProcessor(image_processor(), tokenizer, videos, inputs.chat_template)
    else:
        videos = Qwen3VLVideoProcessor(patch_size=16, merge_size=2, size={"shortest_edge": 4096, "longest_edge": 2**25})
        reference = Qwen3VLProcessor(image_processor(), tokenizer, videos, inputs.chat_template)
    parts = [{"type": "text", "text": "Look: "}, {"type": "video"}, {"type": "text", "text": "what"}]
    parts += [{"type": "image"}, {"type": "text", "text": "?"}]
    messages = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "noise"},
        {"role": "user", "content": "Sure?"},
    ]
    metadata = [{"fps": 2.0, "frames_indices": list(range(5)), "total_num_frames": 5}]
    text = reference.apply_chat_template(messages, tokenize=False)
    if template != "qwen2_5_vl":  # Qwen's own processor put the timed patches in place of all three tokens
        text = text.replace("<|vision_start|><|video_pad|><|vision_end|>", "<|video_pad|>")
    expected = reference(
        text=[text],
        images=[part.pixels for part in conversation.messages[0].content if isinstance(part, Picture)][1:],
        videos=[frames],
        do_sample_frames=False,
        video_metadata=metadata,
        return_tensors="pt",
    )
    assert found["input_ids"].tolist() == expected["input_ids"].tolist()
    assert found["video_grid_thw"].tolist() == expected["video_grid_thw"].tolist()
    learned = found["labels"][0][found["labels"][0] != -100].tolist()
    assert learned == [*tokenizer.encode("noise"), END]


def test_golden_ids_of_two_images(shared_data, tokenizer, build):
    golden = np.load(shared_data / "processor" / "qwen3vl_two_image_golden.npz")
    settings = json.loads((shared_data / "processor" / "qwen3vl_processor_config.json").read_text())["image_processor"]
    settings.pop("image_processor_type")
    inputs = build("qwen3_vl", image_processor=Qwen2VLImageProcessor(**settings), image_size=256)
    pixels = torch.from_numpy(golden["pv"])
    undone = []  # the images themselves are not stored: undo the patches
    for part in pixels.split(golden["grid"].prod(1).tolist()):
        blocks = part.reshape(8, 8, 2, 2, 3, 2, 16, 16)[:, :, :, :, :, 0]
        whole = blocks.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, 256, 256)
        undone.append(Picture(pixels=((whole + 1) / 2 * 255).round().to(torch.uint8)))
    conversation = talk(user(*undone, "pick up the black bowl"), answer("done"))
    tensors = inputs([conversation], with_labels=True)
    prompt = golden["ids"][0].tolist()  # it ends with the generation prompt
    assert tensors["input_ids"][0].tolist() == [*prompt, *tokenizer.encode("done"), END, LINE]
    assert tensors["labels"][0].tolist() == [*[-100] * len(prompt), *tokenizer.encode("done"), END, -100]
    torch.testing.assert_close(tensors["pixel_values"], pixels)


@pytest.mark.parametrize("template", TEMPLATES)
def test_answers_and_the_ends_of_their_turns_are_learned(template, build, tokenizer):
    tensors = build(template)([TALKS["turns"], TALKS["asked"]], with_labels=True)
    ids, labels = tensors["input_ids"], tensors["labels"]
    assert ((labels == -100) | (labels == ids)).all()
    both = [[*tokenizer.encode("no"), END, *tokenizer.encode("yes\n- it is"), END], [*tokenizer.encode("no"), END]]
    assert [row[row != -100].tolist() for row in labels] == both
    first = labels[0].ne(-100).nonzero()[0]  # what stands before an answer is the generation prompt's end
    assert ids[0, first - 1].item() == LINE


def test_labels_are_left_out_unless_asked_for(build):
    inputs = build("qwen3_vl")
    assert "labels" not in inputs([TALKS["words"]])
    tensors = inputs([Observation(prompt="push", views={})], with_labels=True)
    assert tensors["labels"].shape == tensors["input_ids"].shape
    assert (tensors["labels"] == -100).all()


def test_a_conversation_beside_a_robot_is_the_one_alone(build):
    inputs = build("qwen3_vl")
    robot = Observation(prompt="push", views={"front": picture(3, 64, 64)})
    together = inputs([TALKS["images"], robot], with_labels=True)
    for row, one in enumerate([TALKS["images"], robot]):
        alone = inputs([one], with_labels=True)
        length = alone["input_ids"].shape[1]
        for name in ("input_ids", "labels", "attention_mask"):
            assert torch.equal(together[name][row, :length], alone[name][0])
        assert torch.equal(together["position_ids"][:, row, :length], alone["position_ids"][:, 0])
        assert not together["attention_mask"][row, length:].any()
        assert (together["labels"][row, length:] == -100).all()


def test_cameras_and_instants_are_tagged(build, tokenizer):
    cameras = [image(64, 64, view=view, instant=instant) for instant in (0, 1) for view in ("front", "left")]
    inputs = build("qwen3_vl")
    tensors = inputs([talk(user(*cameras, "Is it safe?"), answer("yes"))])
    text = inputs.tokenizer.decode(tensors["input_ids"][0].tolist(), skip_special_tokens=False)
    seen = "<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>"
    instant = f"<|front_start|>{seen}<|front_end|><|left_start|>{seen}<|left_end|>"
    assert text == (
        f"<|im_start|>user\n<|frame_0|>{instant}<|frame_1|>{instant}Is it safe?<|im_end|>\n"
        "<|im_start|>assistant\nyes<|im_end|>\n"
    )


def test_positions_are_those_of_transformers(shared_data, build):
    model = tiny_qwen3_vl(corpus=[], view_tags=[], hidden=32, vision_layers=1).model
    model.config.image_token_id, model.config.video_token_id = IDS[1], VIDEO
    model.config.vision_start_token_id = IDS[0]
    tensors = build("qwen3_vl")([TALKS["turns"], TALKS["images"]])
    mask = tensors["attention_mask"]
    expected, _ = model.model.get_rope_index(
        tensors["input_ids"],
        image_grid_thw=tensors["image_grid_thw"],
        attention_mask=mask.long(),
        mm_token_type_ids=(tensors["input_ids"] == IDS[1]).int(),
    )
    assert torch.equal(torch.where(mask, tensors["position_ids"], 0), torch.where(mask, expected, 0))


def test_refuses_what_it_cannot_write(build):
    inputs = build("qwen3_vl")
    for conversation, text in [
        (talk(), "at least one message"),
        (talk(user("a <|image_pad|>")), r"messages must not contain '<\|image_pad\|>', got it in observation 0"),
        (talk(user("a"), answer("b <|video_pad|>")), r"messages must not contain '<\|video_pad\|>'"),
        (talk(user("a"), Message(role="assistant", content=(image(),))), "must stand in the turns of the user"),
        (talk(user(image(view="rear")), answer("b")), r"vocabulary \['front', 'left'\], got 'rear'"),
        (talk(user(Picture(pixels=picture(2, 3, 64, 64))), answer("b")), "got None for picture 0 in observation 0"),
    ]:
        with pytest.raises(SettingError, match=text):
            inputs([conversation])
    with pytest.raises(SettingError, match="answers must be copied by the chat template as they are"):
        build("qwen3_5_nothink")([talk(user("a"), answer(" b "))])
    with pytest.raises(SettingError, match=r"messages must suit the chat template, .* No user query found"):
        build("qwen3_5_nothink")([talk(answer("b"))])
    with pytest.raises(SettingError, match="chat_template must be given"):
        build("qwen3_vl", chat_template=None)([TALKS["words"]])
    with pytest.raises(SettingError, match="without a video_token_id"):
        build("qwen3_vl", video_token_id=None)([talk(user(Picture(pixels=picture(2, 3, 64, 64), rate_hz=2.0)))])


def test_the_template_that_writes_no_answer_is_refused(build):
    silent = "{% for message in messages %}{% if message.role == 'user' %}{{ message.content }}{% endif %}{% endfor %}"
    with pytest.raises(SettingError, match="chat_template must write every turn"):
        build("qwen3_vl", chat_template=silent)([TALKS["words"]])
