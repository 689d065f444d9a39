"""A small byte-level vocabulary trained on the prompts to come, and its form in a checkpoint."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from vla_kit.embodiment.views import check_view_tag, view_tokens
from vla_kit.errors import CheckpointError, SettingError

__all__ = ["known_view_tags", "tokenizer_from_tensor", "tokenizer_to_tensor", "train_tokenizer"]


def train_tokenizer(corpus: Sequence[str], *, special_tokens: Sequence[str], vocabulary_size: int) -> Tokenizer:
    """Train a byte-level BPE vocabulary that encodes any text.

    Args:
        corpus: Sentences whose words should become short; may be empty.
        special_tokens: Take the first ids, in this order.
        vocabulary_size: Most tokens in all; a small corpus gives fewer.

    Returns:
        The vocabulary; equal input gives an equal one. Each digit is a token of its own, as in Qwen.

    Raises:
        SettingError: If `vocabulary_size` has no room for the special tokens and 256 bytes.

    Examples:
        >>> tokenizer = train_tokenizer(["pick up the cup"] * 2, special_tokens=["<|endoftext|>"], vocabulary_size=300)
        >>> len(tokenizer.encode("pick up").ids), tokenizer.decode(tokenizer.encode("größe 12 \N{PILE OF POO}").ids)
        (2, 'größe 12 💩')
    """
    least = len(special_tokens) + 256
    if vocabulary_size < least:
        raise SettingError(
            f"vocabulary_size must be at least {least} (special tokens and 256 bytes), got {vocabulary_size}. Raise it."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special_tokens],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    with _one_thread():
        tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def tokenizer_to_tensor(tokenizer: Tokenizer) -> Tensor:
    """The whole vocabulary as JSON bytes, which weights-only loads and safetensors accept.

    Args:
        tokenizer: Any.

    Returns:
        uint8 bytes.
    """
    return torch.frombuffer(bytearray(tokenizer.to_str().encode()), dtype=torch.uint8)


def tokenizer_from_tensor(state: Tensor) -> Tokenizer:
    """Inverse of `tokenizer_to_tensor`.

    Args:
        state: uint8 bytes.

    Returns:
        An equal vocabulary.

    Raises:
        CheckpointError: If the bytes are no vocabulary.

    Examples:
        >>> tokenizer = train_tokenizer([], special_tokens=["<|endoftext|>"], vocabulary_size=300)
        >>> tokenizer_from_tensor(tokenizer_to_tensor(tokenizer)).to_str() == tokenizer.to_str()
        True
    """
    try:
        return Tokenizer.from_str(state.cpu().numpy().tobytes().decode())
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(
            f"state must be the JSON of a tokenizer, got {state.numel()} bytes that are not. Load a whole checkpoint."
        ) from error


def known_view_tags(tokenizer: Tokenizer) -> list[str]:
    """Tags of the views whose two boundary tokens a vocabulary holds.

    Args:
        tokenizer: Any.

    Returns:
        Tags in alphabetical order; special tokens of Qwen that look alike, such as `<|vision_start|>`, are none.

    Examples:
        >>> special = ["<|vision_start|>", "<|vision_end|>", "<|ego_start|>", "<|ego_end|>", "<|wrist_start|>"]
        >>> known_view_tags(train_tokenizer([], special_tokens=special, vocabulary_size=300))
        ['ego']
    """
    tokens = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    tags = (token[2:-8] for token in tokens if token.startswith("<|") and token.endswith("_start|>"))
    return sorted(tag for tag in tags if _is_view_tag(tag) and tokens.issuperset(view_tokens(tag)))


def _is_view_tag(tag: str) -> bool:
    try:
        return check_view_tag(tag) == tag
    except SettingError:
        return False


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep the trainer off its thread pool: a data worker forked afterwards would warn about it on every start."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
