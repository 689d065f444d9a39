"""Several samples in one row of tokens, none of which sees another."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vla_kit.backbones._wrapping import hide_in_state_dict
from vla_kit.errors import SettingError

__all__ = ["PerSample", "fill_rows", "packed_layout", "packed_masks"]

_RUN = "run_"


def fill_rows(lengths: Sequence[int], *, capacity: int) -> list[list[int]]:
    """Distribute samples over as few rows as hold them, none fuller than it has to be.

    A batch is as wide as its fullest row, so even rows leave little padding, however much of the capacity they use.

    Args:
        lengths: Tokens of each sample.
        capacity: Most tokens of a row; the longest sample where it is longer.

    Returns:
        Samples of each row.

    Examples:
        >>> fill_rows([40, 12, 30, 18, 20], capacity=64)
        [[0, 4], [2, 3, 1]]

    Source:
        MULTIFIT (Coffman, Garey and Johnson, 1978): the narrowest rows, by bisection, into which the samples go, the
        longest first, each into the first that has room.
    """
    capacity = max(capacity, *lengths)
    order = sorted(range(len(lengths)), key=lambda sample: -lengths[sample])
    count = -(-sum(lengths) // capacity)
    while (best := _first_fit(lengths, order, capacity, count)) is None:
        count += 1
    least, most = max(max(lengths), -(-sum(lengths) // count)), capacity
    while least < most:
        width = (least + most) // 2
        rows = _first_fit(lengths, order, width, count)
        if rows is None:
            least = width + 1
        else:
            best, most = rows, width
    return best


def _first_fit(lengths: Sequence[int], order: Sequence[int], width: int, count: int) -> list[list[int]] | None:
    """Samples in an order, each in the first of `count` rows that has room; None where they do not fit."""
    rows: list[list[int]] = [[] for _ in range(count)]
    room = [width] * count
    for sample in order:
        row = next((row for row, left in enumerate(room) if left >= lengths[sample]), None)
        if row is None:
            return None
        rows[row].append(sample)
        room[row] -= lengths[sample]
    return rows


def packed_layout(lengths: Sequence[int], rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Where the tokens of samples stand in their rows.

    Args:
        lengths: Tokens of each sample.
        rows: Samples of each row, in order.

    Returns:
        `attention_mask` [sample token], True where a sample has a token; `places` [sample token], its place among all
        tokens of all rows; `within` [row token], its place in its sample, 0 in padding; and for each length that occurs
        `run_<length>` [sample token], the places of the samples of that length.

    Examples:
        >>> layout = packed_layout([2, 3], [[1, 0]])
        >>> layout["within"].tolist(), layout["places"].tolist(), layout["run_2"].tolist()
        ([[0, 1, 2, 0, 1]], [[3, 4, 0], [0, 1, 2]], [[3, 4]])
    """
    longest, width = max(lengths), max(sum(lengths[sample] for sample in row) for row in rows)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    places = torch.zeros(len(lengths), longest, dtype=torch.long)
    within = torch.zeros(len(rows), width, dtype=torch.long)
    runs: dict[int, list[Tensor]] = {}
    for number, row in enumerate(rows):
        start = 0
        for sample in row:
            length = lengths[sample]
            within[number, start : start + length] = torch.arange(length)
            places[sample, :length] = torch.arange(length) + number * width + start
            runs.setdefault(length, []).append(places[sample, :length])
            start += length
    return {
        "attention_mask": mask,
        "places": places,
        "within": within,
        **{f"{_RUN}{length}": torch.stack(found) for length, found in runs.items()},
    }


def packed_masks(
    inputs: Mapping[str, Tensor], *, attention: str, dtype: torch.dtype
) -> tuple[Tensor | None, tuple[Tensor, ...]]:
    """What keeps the samples of a row apart: in attention a mask, in linear attention the places of each sample.

    Args:
        inputs: With the entries of `packed_layout`.
        attention: Implementation of transformers; `sdpa` or `eager`.
        dtype: Of the additive mask that `eager` takes.

    Returns:
        Mask [row 1 token token]: a token sees the tokens before it in its sample; and places [sample token] of the
        samples of each length.

    Raises:
        SettingError: If the attention is another one.
    """
    if attention not in ("sdpa", "eager"):
        raise SettingError(f"attention must be sdpa or eager where samples are packed, got {attention!r}. Use sdpa.")
    within = inputs["within"]
    sample = (within == 0).cumsum(1)  # each padded token is a sample of its own, which attends to itself
    causal = torch.ones(within.shape[1], within.shape[1], dtype=torch.bool, device=within.device).tril()
    seen: Bool[Tensor, "row 1 token token"] = (sample[:, None, :, None] == sample[:, None, None, :]) & causal
    runs = tuple(tensor for name, tensor in inputs.items() if name.startswith(_RUN))
    if attention == "sdpa":
        return seen, runs
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min), runs


class PerSample(nn.Module):
    """Runs a linear-attention layer on each sample of packed rows by itself, so that its state begins anew with each.

    Samples of one length run together, without padding. The kernels of flash-linear-attention could run all of them at
    once; transformers' own path in torch cannot: it reads a row as one sequence. The state dict is that of the layer.

    Args:
        mixer: Layer that takes `hidden_states` [row token width] and `attention_mask`.
    """

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.mixer = mixer
        hide_in_state_dict(self, "mixer")

    def forward(
        self,
        hidden_states: Float[Tensor, "row token width"],
        attention_mask: Tensor | Sequence[Int[Tensor, "sample token"]] | None = None,
        **settings: Any,  # noqa: ANN401 (transformers' own)
    ) -> Float[Tensor, "row token width"]:
        """States after the layer.

        Args:
            hidden_states: Of all rows.
            attention_mask: Places of the samples of each length among all tokens, for packed rows; else the layer's own
                mask.
            **settings: Passed on.

        Returns:
            As the layer; 0 in the padding of packed rows.
        """
        if attention_mask is None or isinstance(attention_mask, Tensor):
            mixed: Tensor = self.mixer(hidden_states=hidden_states, attention_mask=attention_mask, **settings)
            return mixed
        flat = hidden_states.flatten(0, 1)
        rows = torch.zeros_like(flat)
        for places in attention_mask:
            own = self.mixer(hidden_states=flat[places], attention_mask=None, **settings)
            rows[places] = own.to(rows.dtype)
        return rows.view_as(hidden_states)
