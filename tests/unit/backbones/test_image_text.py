import copy
import warnings

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from vla_kit.backbones.image_text import ImageTextBackbone
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.backbones.vocabulary import train_tokenizer
from vla_kit.errors import CheckpointError, DtypeError, SettingError, ShapeError
from vla_kit.policy.description import build, describe
from vla_kit.protocols import Backbone, Conversation, Message, Observation, Picture

SPECIAL = ["<pad>", "<bos>", "<eos>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
WORDS = ["pick up the red cup", "push the puck to the goal"]
SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = {**SIZE, "vocab_size": 300, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512}
SETTINGS = {"view_tags": ["ego", "wrist"]}


def image(seed=0, size=40):
    return torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


MIXED = [
    Observation(prompt="pick up the cup", views={"ego": image(0), "wrist": image(1)}),
    Observation(prompt="push the puck to the goal please", views={}),
    Observation(prompt="push", views={"wrist": image(2)}),
]


def vocabulary():
    return PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(WORDS, special_tokens=SPECIAL, vocabulary_size=300),
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        extra_special_tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    )


def paligemma():
    tokenizer = vocabulary()
    config = PaliGemmaConfig(
        vision_config={**SIZE, "model_type": "siglip_vision_model", "image_size": 32, "patch_size": 16},
        text_config={**TEXT, "model_type": "gemma", "pad_token_id": 0},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        hidden_size=32,
        pad_token_id=0,
    )
    pixels = SiglipImageProcessor(size={"height": 32, "width": 32}, image_seq_length=4)
    return PaliGemmaForConditionalGeneration(config), PaliGemmaProcessor(pixels, tokenizer)


SMOLVLM = (  # the template of SmolVLM on the hub, in other words
    "<bos>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}<image>{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
)


def smolvlm():
    pytest.importorskip("num2words", reason="the processor of SmolVLM needs num2words")
    tokenizer = vocabulary()
    config = SmolVLMConfig(
        vision_config={**SIZE, "image_size": 32, "patch_size": 8},
        text_config={**TEXT, "model_type": "llama", "pad_token_id": 0},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    side = {"longest_edge": 32}
    pixels = SmolVLMImageProcessor(size=side, max_image_size=side, do_image_splitting=False)
    settings = {"image_seq_len": 4, "chat_template": SMOLVLM}
    processor = SmolVLMProcessor(pixels, tokenizer, SmolVLMVideoProcessor(), **settings)
    return SmolVLMForConditionalGeneration(config), processor


FAMILIES = {"paligemma": paligemma, "smolvlm": smolvlm}


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request, tmp_path_factory):
    """A checkpoint as transformers writes it, without view tokens, as on the hub."""
    folder = tmp_path_factory.mktemp(request.param)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, processor = FAMILIES[request.param]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def backbone(checkpoint):
    return ImageTextBackbone.from_pretrained(checkpoint, **SETTINGS)


def test_satisfies_the_protocol(backbone):
    assert isinstance(backbone, Backbone)
    assert backbone.width == 32


def test_states_are_those_of_processor_and_model(backbone):
    one = MIXED[0]
    context = backbone(backbone.prepare([one]), with_logits=True)
    text = "<|ego_start|><image><|ego_end|><|wrist_start|><image><|wrist_end|>pick up the cup"
    made = backbone.processor(text=[text], images=[list(one.views.values())], return_tensors="pt")
    made.pop("labels", None)
    if "token_type_ids" not in backbone._accepted:
        made.pop("token_type_ids", None)
    output = backbone.model(**made, output_hidden_states=True)
    torch.testing.assert_close(context.hidden, output.hidden_states[-1])
    torch.testing.assert_close(context.logits, output.logits)
    assert context.position_ids.tolist() == [[list(range(made["input_ids"].shape[1]))]] * 3
    placeholder = backbone.processor.tokenizer.convert_tokens_to_ids("<image>")
    assert (made["input_ids"] == placeholder).sum() == 8  # 2 x 2 tokens of each view


def test_frames_are_images_behind_frame_tags(backbone):
    views = {"ego": torch.stack([image(3), image(4)]), "wrist": image(5)}
    context = backbone(backbone.prepare([Observation(prompt="push", views=views)]))
    ego, wrist = "<|ego_start|><image><|ego_end|>", "<|wrist_start|><image><|wrist_end|>"
    text = f"<|frame_0|>{ego}<|frame_1|>{ego}{wrist}push"
    made = backbone.processor(text=[text], images=[[image(3), image(4), image(5)]], return_tensors="pt")
    accepted = {name: tensor for name, tensor in made.items() if name in backbone._accepted and name != "labels"}
    torch.testing.assert_close(context.hidden, backbone.model.model(**accepted).last_hidden_state)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_sample_alone_equals_the_batch(backbone, frames):
    past = Observation(prompt="push", views={"ego": torch.stack([image(seed) for seed in range(frames)])})
    mixed = [*MIXED, past]
    together = backbone(backbone.prepare(mixed))
    for index, observation in enumerate(mixed):
        alone = backbone(backbone.prepare([observation]))
        real = together.mask[index]
        assert alone.mask.all()
        torch.testing.assert_close(alone.hidden[0], together.hidden[index, real], atol=1e-5, rtol=1e-5)
        assert torch.equal(alone.position_ids[:, 0], together.position_ids[:, index, real])


def test_padding_changes_nothing(backbone):
    inputs = backbone.prepare(MIXED)
    clean = backbone(inputs)
    mask = inputs["attention_mask"]
    assert not mask[:, -1].all()
    poisoned = inputs | {
        "input_ids": torch.where(mask, inputs["input_ids"], 77),
        "position_ids": torch.where(mask, inputs["position_ids"], 999),
    }
    assert torch.equal(backbone(poisoned).hidden[mask], clean.hidden[mask])


def test_views_reach_the_states_and_gradients_the_vision_tower(backbone):
    learner = copy.deepcopy(backbone)
    first, second = (
        learner(learner.prepare([Observation(prompt="push", views={"ego": image(seed)})])).hidden for seed in (1, 2)
    )
    assert not torch.allclose(first[:, -1], second[:, -1])
    second.square().sum().backward()
    gradients = {name for name, parameter in learner.named_parameters() if parameter.grad is not None}
    assert any("vision" in name for name in gradients)
    assert any("layers.0" in name and "vision" not in name for name in gradients)


def test_save_and_load_keeps_everything(backbone, tmp_path):
    backbone.save_pretrained(tmp_path)
    other = ImageTextBackbone.from_pretrained(tmp_path, view_tags=["ego"])
    assert other.processor.tokenizer.get_vocab() == backbone.processor.tokenizer.get_vocab()
    torch.testing.assert_close(other(other.prepare(MIXED)).hidden, backbone(backbone.prepare(MIXED)).hidden)


def test_is_described_by_its_configuration_alone(backbone, tmp_path):
    described = describe(backbone, folder=tmp_path, name="backbone")
    assert described["init_args"] == {"source": "backbone", "view_tags": [], "layer": -1, "attention": "sdpa"}
    assert not list(tmp_path.rglob("*.safetensors"))
    other = build(described, folder=tmp_path).eval()
    other.load_state_dict(backbone.state_dict())
    states = [one(one.prepare(MIXED)).hidden for one in (backbone, other)]
    assert torch.equal(*states)


def test_from_config_takes_a_state_dict(backbone, checkpoint, tmp_path):
    other = ImageTextBackbone.from_config(checkpoint, **SETTINGS).eval()
    torch.save(backbone.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    torch.testing.assert_close(other(other.prepare(MIXED)).hidden, backbone(backbone.prepare(MIXED)).hidden)
    fewer = ImageTextBackbone.from_config(checkpoint, view_tags=["ego"])
    with pytest.raises(CheckpointError, match=r"vocabulary .* 2 other tokens such as \['<.wrist_end"):
        fewer.set_extra_state(backbone.get_extra_state())


def test_earlier_layer(backbone):
    inputs = backbone.prepare(MIXED[1:2])
    other = ImageTextBackbone(backbone.model, processor=backbone.processor, layer=-2)
    last = backbone.model.get_decoder().layers[-1]
    seen = []
    handle = last.register_forward_pre_hook(lambda _, args, kwargs: seen.append(args[0]), with_kwargs=True)
    context = other(inputs)
    handle.remove()
    torch.testing.assert_close(context.hidden, seen[0])


def test_half_precision_keeps_rotary_frequencies(backbone):
    half = copy.deepcopy(backbone).to(torch.bfloat16)
    frequencies = {name: tensor for name, tensor in half.named_buffers() if name.endswith("inv_freq")}
    assert frequencies
    assert {tensor.dtype for tensor in frequencies.values()} == {torch.float32}
    context = half(half.prepare(MIXED))
    assert context.hidden.dtype == torch.bfloat16
    assert context.hidden[context.mask].isfinite().all()


def test_gradient_checkpointing_and_a_step_without_warnings(backbone):
    clone = copy.deepcopy(backbone)
    learner = ImageTextBackbone(clone.model, processor=clone.processor, gradient_checkpointing=True).train()
    calls = []
    learner.model.get_decoder().layers[0].input_layernorm.register_forward_hook(lambda *_: calls.append(1))
    inputs = learner.prepare(MIXED)  # PaliGemma's processor warns of numpy
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner(inputs).hidden.mean().backward()
    assert len(calls) == 2  # computed again on the way back
    assert learner.model.get_input_embeddings().weight.grad is not None


def test_lora_reaches_every_text_layer_and_no_other(backbone):
    lora = pytest.importorskip("vla_kit.backbones.lora", reason="LoRA needs peft", exc_type=ImportError)
    adapted = lora.add_lora(copy.deepcopy(backbone), rank=2)
    names = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert len(names) == 2 * 4 * 2 + 1  # layers, projections, matrices; rows of the view tokens
    assert not any("vision" in name for name in names)


def test_rows_of_view_tokens_learn_as_they_are_looked_up(backbone):
    """Gemma scales what it looks up, and SmolVLM's head shares the embedding."""
    lora = pytest.importorskip("vla_kit.backbones.lora", reason="LoRA needs peft", exc_type=ImportError)
    adapted = lora.add_lora(copy.deepcopy(backbone), rank=2)
    inputs = backbone.prepare(MIXED)
    wanted = backbone(inputs, with_logits=True)
    got = adapted(inputs, with_logits=True)
    torch.testing.assert_close(got.hidden, wanted.hidden)
    torch.testing.assert_close(got.logits, wanted.logits)
    embedding = adapted.model.get_input_embeddings()
    with torch.no_grad():
        embedding.rows.add_(torch.randn(embedding.rows.shape, generator=torch.Generator().manual_seed(0)))
    changed = adapted(inputs, with_logits=True)
    assert not torch.allclose(changed.hidden, wanted.hidden, atol=1e-3)
    merged = lora.merge_lora(adapted)(inputs, with_logits=True)
    torch.testing.assert_close(merged.hidden, changed.hidden)
    torch.testing.assert_close(merged.logits, changed.logits)


@pytest.mark.parametrize(
    ("observations", "error", "text"),
    [
        ([], ShapeError, "observations must hold at least one observation, got 0"),
        ([Observation(prompt="", views={})], SettingError, "must make 1 to 512 tokens, got 0 in observation 0"),
        ([Observation(prompt="1" * 513, views={})], SettingError, "1 to 512 tokens, got 513 in observation 0"),
        ([Observation(prompt="a <image>", views={})], SettingError, "prompt must not contain '<image>'"),
        ([Observation(prompt="", views={"left": image()})], SettingError, "of the vocabulary, got 'left'"),
        ([Observation(prompt="", views={"ego": image().float()})], DtypeError, "uint8 .* got torch.float32 for 'ego'"),
    ],
)
def test_refused_observations(backbone, observations, error, text):
    with pytest.raises(error, match=text):
        backbone.prepare(observations)


def test_refused_arguments(backbone, tmp_path):
    with pytest.raises(SettingError, match=r"layer must lie in \[-3, -1\], got 0"):
        ImageTextBackbone(backbone.model, processor=backbone.processor, layer=0)
    with pytest.raises(CheckpointError, match=r"source must be a folder or a hub id, got '.*nothing'"):
        ImageTextBackbone.from_pretrained(tmp_path / "nothing", view_tags=[])
    grown = copy.deepcopy(backbone.processor)
    grown.tokenizer.add_tokens([f"word{index}" for index in range(2000)])
    with pytest.raises(SettingError, match=r"processor must have at most as many tokens as the model has embeddings"):
        ImageTextBackbone(backbone.model, processor=grown)
    qwen = tiny_qwen3_vl(corpus=WORDS, view_tags=["ego"], hidden=32, vision_layers=1, text_layers=1)
    with pytest.raises(SettingError, match=r"one position per token, got Qwen3VL.* with three axes. Use .*QwenVLBackb"):
        ImageTextBackbone(qwen.model, processor=backbone.processor)


def asked(*content, said="a cup"):
    messages = (Message(role="user", content=content), Message(role="assistant", content=(said,)))
    return Conversation(messages=messages)


TURNS = Conversation(
    messages=(
        *asked(Picture(pixels=image(3)), "what is it?").messages,
        *asked("and", Picture(pixels=image(4), view="ego"), "that?", said="a puck").messages,
    )
)


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chatty")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, processor = smolvlm()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return ImageTextBackbone.from_pretrained(folder, **SETTINGS)


def test_conversations_have_the_ids_of_the_processor_and_the_loss_of_the_model(chatty):
    inputs = chatty.prepare([MIXED[0], TURNS, asked("hello", said="hi")], with_labels=True)
    text = (
        "<bos>User:<image>what is it?<end_of_utterance>\nAssistant: a cup<end_of_utterance>\n"
        "User: and<|ego_start|><image><|ego_end|>that?<end_of_utterance>\nAssistant: a puck<end_of_utterance>\n"
    )
    made = chatty.processor(text=[text], images=[[image(3), image(4)]], return_tensors="pt")
    row, mask = inputs["input_ids"][1], inputs["attention_mask"][1]
    assert row[mask].tolist() == made["input_ids"][0].tolist()
    learned = [
        chatty.tokenizer.decode(row[row != -100].tolist(), skip_special_tokens=False) for row in inputs["labels"]
    ]
    assert learned == ["", "a cup<end_of_utterance>a puck<end_of_utterance>", "hi<end_of_utterance>"]
    assert ((inputs["labels"] == -100) | (inputs["labels"] == inputs["input_ids"])).all()
    labels = inputs["labels"]
    logits = chatty(inputs, with_logits=True).logits
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(chatty(inputs).language_loss, expected)


def test_conversations_that_cannot_be_written_are_refused(chatty, tmp_path):
    for one, text in [
        (asked("a <image>"), r"messages must not contain '<image>', got it in observation 0"),
        (asked(Picture(pixels=image(1)[None], rate_hz=2.0)), "pictures must be images, got a video in observation 0"),
        (asked(Picture(pixels=image(1), view="rear")), "got 'rear' in observation 0"),
    ]:
        with pytest.raises(SettingError, match=text):
            chatty.prepare([one])
    silent = ImageTextBackbone(chatty.model, processor=copy.deepcopy(chatty.processor))
    silent.processor.chat_template = None
    with pytest.raises(SettingError, match="must have a chat template where a batch holds conversations"):
        silent.prepare([TURNS])


def test_template_and_tokenizer_begin_a_text_once(chatty):
    processor = copy.deepcopy(chatty.processor)
    first = processor.tokenizer.bos_token_id
    processor.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", first)]
    )
    assert processor.tokenizer("hi").input_ids[0] == first
    both = ImageTextBackbone(chatty.model, processor=processor).prepare([TURNS, asked("a")], with_labels=True)
    once = chatty.prepare([TURNS, asked("a")], with_labels=True)
    assert torch.equal(both["input_ids"], once["input_ids"])
    assert torch.equal(both["labels"], once["labels"])
