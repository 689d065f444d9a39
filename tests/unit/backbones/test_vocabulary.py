import os

import pytest
import torch

from vla_kit.backbones.vocabulary import tokenizer_from_tensor, tokenizer_to_tensor, train_tokenizer
from vla_kit.errors import CheckpointError, SettingError

CORPUS = ["pick up the red cup", "push the puck to the goal", "The control frequency is 20 Hz."]
TEXTS = ["pick up the red cup", "größe \N{SNOWMAN} \N{PILE OF POO}", "1234567890", " two  spaces\tand\n ", "\x00", ""]


def train(**changes):
    return train_tokenizer(CORPUS, **{"special_tokens": ["<|a|>", "<|b|>"], "vocabulary_size": 300} | changes)


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back(text):
    tokenizer = train()
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_no_corpus_leaves_bytes():
    tokenizer = train_tokenizer([], special_tokens=["<|a|>"], vocabulary_size=300)
    assert tokenizer.get_vocab_size() == 257
    assert len(tokenizer.encode("größe").ids) == 7


def test_special_tokens_lead_and_digits_stand_alone():
    tokenizer = train()
    assert [tokenizer.token_to_id(token) for token in ("<|a|>", "<|b|>")] == [0, 1]
    assert tokenizer.encode("x<|b|>y").tokens == ["x", "<|b|>", "y"]
    assert tokenizer.encode("2000").tokens == ["2", "0", "0", "0"]
    assert tokenizer.get_vocab_size() <= 300


def test_the_corpus_shortens_its_own_words():
    assert len(train().encode(CORPUS[0]).ids) < len(CORPUS[0]) / 2


def test_same_corpus_same_vocabulary():
    assert train().to_str() == train().to_str()


def test_environment_is_left_alone(monkeypatch):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    train()
    assert "TOKENIZERS_PARALLELISM" not in os.environ
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    train()
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


def test_tensor_round_trip():
    tokenizer = train()
    state = tokenizer_to_tensor(tokenizer)
    assert state.dtype == torch.uint8
    assert tokenizer_from_tensor(state).to_str() == tokenizer.to_str()
    with pytest.raises(CheckpointError, match="must be the JSON of a tokenizer, got 4 bytes"):
        tokenizer_from_tensor(torch.full((4,), 200, dtype=torch.uint8))


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(SettingError, match=r"at least 258 .* got 257"):
        train(vocabulary_size=257)
