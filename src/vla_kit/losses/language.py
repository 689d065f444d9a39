"""Next-token loss of the language side."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from vla_kit.errors import ShapeError

__all__ = ["IGNORED_LABEL", "next_token_loss", "projected_next_token_loss"]

IGNORED_LABEL = -100
"""Label of a token that is not to be learned: prompt, image, padding."""


def next_token_loss(
    logits: Float[Tensor, "batch token vocabulary"],
    labels: Int[Tensor, "batch token"],
) -> Float[Tensor, ""]:
    """Mean negative log-likelihood of the labelled tokens of a batch.

    Logits at token `i` predict label `i + 1`; both tensors are aligned with the input tokens, as in transformers.
    Logits that predict an ignored label contribute nothing, whatever they hold.

    Args:
        logits: Scores of the next token.
        labels: Token ids, or `IGNORED_LABEL` (-100) where nothing is to be learned.

    Returns:
        Mean over the labelled tokens, in nats, float32 or better; 0, still part of the graph, if there are none.

    Raises:
        ShapeError: If `labels` does not have the batch and token axes of `logits`.

    Examples:
        Four equally likely tokens cost log 4, and a batch without labels costs nothing:

        >>> import torch
        >>> next_token_loss(torch.zeros(1, 2, 4), torch.tensor([[-100, 3]]))
        tensor(1.3863)
        >>> next_token_loss(torch.zeros(1, 2, 4), torch.tensor([[-100, -100]]))
        tensor(0.)

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.5, equation 3: a sum over the text tokens of a sample. How the batch is
        reduced is not said; we take the mean over all labelled tokens, so that the loss weight does not depend on the
        length of texts.
    """
    return projected_next_token_loss(logits, labels, project=lambda rows: rows)


def projected_next_token_loss(
    hidden: Float[Tensor, "batch token width"],
    labels: Int[Tensor, "batch token"],
    *,
    project: Callable[[Tensor], Tensor],
) -> Float[Tensor, ""]:
    """`next_token_loss` of the logits that a language head makes of hidden states, which it sees where they count.

    With a vocabulary of 250,000 the logits of every token of a robot's prompt would be most of a step's memory.

    Args:
        hidden: States of the last layer.
        labels: As for `next_token_loss`.
        project: States `[row width]` -> logits `[row vocabulary]`, the language head. It is called once, for no rows at
            all where nothing is labelled, so that its parameters are part of the graph in every batch.

    Returns:
        As `next_token_loss`.

    Raises:
        ShapeError: If `labels` does not have the batch and token axes of `hidden`.

    Examples:
        >>> import torch
        >>> head = torch.nn.Linear(2, 4)
        >>> hidden, labels = torch.randn(1, 3, 2), torch.tensor([[-100, 1, -100]])
        >>> loss = projected_next_token_loss(hidden, labels, project=head)
        >>> torch.isclose(loss, next_token_loss(head(hidden), labels))
        tensor(True)
    """
    if labels.shape != hidden.shape[:2]:
        raise ShapeError(
            f"labels must have the shape {tuple(hidden.shape[:2])} of the logits' tokens, got {tuple(labels.shape)}. "
            "Give one label per input token, unshifted."
        )
    next_labels = labels[:, 1:]
    labelled = next_labels != IGNORED_LABEL
    # Selecting first spares the float32 copy of all other rows, which is most of a robot prompt.
    logits = project(hidden[:, :-1][labelled])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    total = functional.cross_entropy(logits, next_labels[labelled], reduction="sum")
    return total / labelled.sum().clamp(min=1)
