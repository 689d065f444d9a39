"""A few rows of a frozen embedding that learn: those of new tokens, beside LoRA."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from vla_kit.errors import SettingError

__all__ = ["LearnedHead", "LearnedRows"]


class LearnedRows(nn.Module):
    """Stand in for a frozen embedding of which a few rows learn.

    The other rows have no gradient and no optimiser state. The embedding is never copied: only the rows that were
    looked up are exchanged.

    Args:
        base_layer: The embedding, frozen by its owner; it stays as it is until `merge`.
        token_ids: Tokens whose rows learn; they begin as they are.

    Raises:
        SettingError: If there is no token, or one that the embedding has not.

    Examples:
        >>> embedding = LearnedRows(nn.Embedding(5, 2).requires_grad_(False), token_ids=[3])
        >>> embedding(torch.tensor([[0, 3]])).sum().backward()
        >>> embedding.rows.grad, embedding.base_layer.weight.grad
        (tensor([[1., 1.]]), None)

    Source:
        As `trainable_token_indices` of peft, which copies the whole embedding in every pass. Qwen-VLA,
        arXiv 2605.30280, trains all weights.
    """

    token_ids: Tensor

    def __init__(self, base_layer: nn.Embedding, *, token_ids: Sequence[int]) -> None:
        super().__init__()
        if not token_ids or not all(0 <= token < base_layer.num_embeddings for token in token_ids):
            raise SettingError(
                f"token_ids must be tokens in [0, {base_layer.num_embeddings - 1}], at least one, got "
                f"{list(token_ids)}. Name those whose rows shall learn."
            )
        self.base_layer = base_layer
        self.register_buffer("token_ids", torch.tensor(token_ids, device=base_layer.weight.device))
        self.rows = nn.Parameter(base_layer.weight.detach()[self.token_ids].clone())

    @property
    def weight(self) -> Tensor:
        """That of the frozen embedding, for callers that ask for its device and precision."""
        return self.base_layer.weight

    @property
    def num_embeddings(self) -> int:
        """Rows, frozen or not."""
        return self.base_layer.num_embeddings

    def forward(self, ids: Int[Tensor, "batch token"]) -> Float[Tensor, "batch token width"]:
        """Look up tokens.

        Args:
            ids: Tokens.

        Returns:
            Their rows, scaled where the embedding scales.
        """
        matches = ids[..., None] == self.token_ids
        scale: Any = getattr(self.base_layer, "embed_scale", None)  # Gemma multiplies what it looks up
        rows = self.rows if scale is None else self.rows * scale.to(self.rows.dtype)
        known: Tensor = self.base_layer(ids)
        return torch.where(matches.any(-1, keepdim=True), rows[matches.int().argmax(-1)], known)

    def merge(self) -> nn.Embedding:
        """Write the learned rows into the embedding.

        Returns:
            The embedding.
        """
        with torch.no_grad():
            self.base_layer.weight[self.token_ids] = self.rows
        return self.base_layer


class LearnedHead(nn.Module):
    """Stand in for a language head that shares its matrix with the embedding in a `LearnedRows`, learned rows included.

    Args:
        base_layer: The head.
        embedding: What stands in for the embedding; its learned rows become those of the head too.
    """

    token_ids: Tensor

    def __init__(self, base_layer: nn.Linear, *, embedding: LearnedRows) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.register_buffer("token_ids", embedding.token_ids)
        self.rows = embedding.rows

    @property
    def weight(self) -> Tensor:
        """That of the frozen head."""
        return self.base_layer.weight

    def forward(self, hidden: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token vocabulary"]:
        """Logits of tokens.

        Args:
            hidden: States.

        Returns:
            Logits, those of the learned rows included.
        """
        bias = None if self.base_layer.bias is None else self.base_layer.bias[self.token_ids]
        logits: Tensor = self.base_layer(hidden)
        return logits.index_copy(-1, self.token_ids, linear(hidden, self.rows, bias))

    def merge(self) -> nn.Linear:
        """The head, whose matrix the merged embedding has changed already."""
        return self.base_layer
