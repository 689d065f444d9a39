"""Quantile normalisation of native actions, for many robots in one module."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from vla_kit.actions.masked import MaskedActions
from vla_kit.actions.space import ActionSpace
from vla_kit.actions.statistics import QuantileStats
from vla_kit.errors import CheckpointError, MissingStatisticsError, SettingError, ShapeError, StatisticsError

__all__ = ["QuantileNormalizer"]

_Row = tuple[Tensor, Tensor, Tensor]  # q01, q99 and which channels are normalised, of one embodiment
_ROW = ("q01", "q99", "normalized")
_EPSILON = torch.finfo(torch.float32).eps


class QuantileNormalizer(nn.Module):
    """Maps native actions to [-1, 1] by the 1 % and 99 % quantiles of each channel, and back.

    `2 (a - q01) / (q99 - q01) - 1`, clipped to [-1, 1]. A constant channel (`q99 - q01` below the resolution of
    float32) becomes 0 and comes back as `q01`. A channel whose space says `normalized=False` passes through, neither
    scaled nor clipped. Padding comes out as an exact 0, whatever it held. A real entry beyond the channels of its
    embodiment has no statistics and becomes NaN.

    All statistics are buffers, kept in float32 even where the model is moved to another precision. A state dict carries
    the names, numbers and pass-through channels, so it loads into an empty normaliser. One that already has statistics
    takes a state dict only if it holds the same ones, perhaps with more embodiments; else `load_state_dict` raises
    `CheckpointError`.

    Args:
        stats: Embodiment name -> statistics. Empty where None: fill it with `add` or by loading a checkpoint.
        spaces: Embodiment name -> action space, for every name in `stats`.

    Raises:
        SettingError: If `stats` and `spaces` do not name the same embodiments.
        StatisticsError: If statistics and space differ in size.

    Examples:
        >>> import torch
        >>> from vla_kit.actions import ActionSpace, ChannelGroup
        >>> joint = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad")])
        >>> stats = QuantileStats(q01=torch.tensor([0.0]), q99=torch.tensor([2.0]))
        >>> normalizer = QuantileNormalizer({"arm": stats}, spaces={"arm": joint})
        >>> native = MaskedActions.pad([torch.tensor([[0.5], [9.0]])], channels=2)
        >>> normalizer.normalize(native, ["arm"]).values
        tensor([[[-0.5000,  0.0000],
                 [ 1.0000,  0.0000]]])

    Source:
        Qwen-VLA, arXiv 2605.30280, equation 5. The paper is silent on constant channels and grippers; mapping a
        constant to 0 and letting a channel pass through are our choices.
    """

    q01: Tensor
    q99: Tensor
    normalized: Tensor
    sizes: Tensor

    def __init__(
        self,
        stats: Mapping[str, QuantileStats] | None = None,
        *,
        spaces: Mapping[str, ActionSpace] | None = None,
    ) -> None:
        super().__init__()
        stats, spaces = stats or {}, spaces or {}
        if set(stats) != set(spaces):
            raise SettingError(
                f"spaces must name the embodiments of stats {sorted(stats)}, got {sorted(spaces)}. "
                "Give one ActionSpace per embodiment: it says which channels are normalised."
            )
        self._sizes: dict[str, int] = {}
        self.register_buffer("q01", torch.zeros(0, 0, dtype=torch.float32))
        self.register_buffer("q99", torch.zeros(0, 0, dtype=torch.float32))
        self.register_buffer("normalized", torch.zeros(0, 0, dtype=torch.bool))
        self.register_buffer("sizes", torch.zeros(0, dtype=torch.int64))
        for name in stats:
            self.add(name, stats[name], spaces[name])

    @property
    def embodiments(self) -> tuple[str, ...]:
        """Names of the embodiments with statistics, in the order of the buffers."""
        return tuple(self._sizes)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Embodiment name -> short hexadecimal digest of its quantiles and pass-through channels."""
        return {name: _fingerprint(self._row(name)) for name in self._sizes}

    def stats(self, name: str) -> QuantileStats:
        """Quantiles of one embodiment, as `add` takes them.

        Args:
            name: Name of the embodiment.

        Returns:
            `q01` and `q99`, on the CPU.

        Raises:
            MissingStatisticsError: If there are none.
        """
        if name not in self._sizes:
            raise MissingStatisticsError(
                f"name must be one of {sorted(self._sizes)}, got {name!r}. Add its statistics with add."
            )
        q01, q99, _ = self._row(name)
        return QuantileStats(q01=q01, q99=q99)

    def add(self, name: str, stats: QuantileStats, space: ActionSpace) -> None:
        """Add the statistics of one embodiment; adding the same ones again does nothing.

        Args:
            name: Name of the embodiment, one per data set and action type.
            stats: Its statistics.
            space: Its action space, of the same size.

        Raises:
            SettingError: If `name` is empty.
            StatisticsError: If sizes differ, or `name` already has other statistics.

        Examples:
            >>> from vla_kit.actions import ActionSpace, ChannelGroup
            >>> joint = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad")])
            >>> normalizer = QuantileNormalizer()
            >>> normalizer.add("arm", QuantileStats.from_dict({"q01": [0.0], "q99": [2.0]}), joint)
            >>> normalizer
            QuantileNormalizer(arm: 1)
        """
        if not name:
            raise SettingError("name must not be empty, got ''. Name the embodiment as its EmbodimentSpec does.")
        if stats.size != space.size:
            raise StatisticsError(
                f"stats must have one entry per channel of the space of {name!r} ({space.size}), got {stats.size}. "
                "Compute them from the same actions."
            )
        row = (stats.q01, stats.q99, space.normalized)
        if name not in self._sizes:
            self._append(name, row)
        elif self.fingerprints[name] != _fingerprint(row):
            raise StatisticsError(
                f"stats must stay the same for one embodiment, got {_fingerprint(row)} for {name!r} "
                f"after {self.fingerprints[name]}. Give the new data set a name of its own."
            )

    def normalize(self, actions: MaskedActions, embodiments: Sequence[str], *, clip: bool = True) -> MaskedActions:
        """Map native actions to [-1, 1].

        Args:
            actions: Native actions of one or more robots.
            embodiments: Name of the embodiment of each sample.
            clip: Whether values beyond the quantiles count as the quantiles. False continues the map linearly: the
                exact inverse of `denormalize`, for actions that a policy predicted.

        Returns:
            Normalised actions of the same dtype and mask; padding is exactly 0.

        Raises:
            MissingStatisticsError: If an embodiment has no statistics.
            ShapeError: If `embodiments` does not name every sample, or the padded width is too small.
        """
        values, q01, q99, scaled, inside = self._gather(actions, embodiments)
        constant = _is_constant(q01, q99)
        mapped = 2 * (values - q01) / torch.where(constant, 1, q99 - q01) - 1
        mapped = mapped.clamp(-1, 1) if clip else mapped
        mapped = torch.where(constant, 0, mapped)
        return _masked(torch.where(scaled, mapped, values), inside=inside, like=actions)

    def denormalize(self, actions: MaskedActions, embodiments: Sequence[str]) -> MaskedActions:
        """Map normalised actions back to native ones: the inverse of `normalize` between the quantiles.

        Predictions outside [-1, 1] are continued linearly, not clipped.

        Args:
            actions: Normalised actions of one or more robots.
            embodiments: Name of the embodiment of each sample.

        Returns:
            Native actions of the same dtype and mask; padding is exactly 0.

        Raises:
            MissingStatisticsError: If an embodiment has no statistics.
            ShapeError: If `embodiments` does not name every sample, or the padded width is too small.

        Examples:
            >>> import torch
            >>> from vla_kit.actions import ActionSpace, ChannelGroup
            >>> joint = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad")])
            >>> normalizer = QuantileNormalizer()
            >>> normalizer.add("arm", QuantileStats.from_dict({"q01": [0.0], "q99": [2.0]}), joint)
            >>> normalizer.denormalize(MaskedActions.pad([torch.tensor([[-0.5]])]), ["arm"]).cut(joint)
            [tensor([[0.5000]])]

        Source:
            Qwen-VLA, arXiv 2605.30280, equation 5, inverted; the paper does not say whether predictions are clipped.
        """
        values, q01, q99, scaled, inside = self._gather(actions, embodiments)
        mapped = torch.lerp(q01, q99, (values + 1) / 2)  # exact at both ends
        mapped = torch.where(_is_constant(q01, q99), q01, mapped)
        return _masked(torch.where(scaled, mapped, values), inside=inside, like=actions)

    def get_extra_state(self) -> Tensor:
        """Names and fingerprints as JSON in a uint8 tensor, so that a state dict holds nothing but tensors."""
        return torch.tensor(list(json.dumps(self.fingerprints).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Do nothing: `load_state_dict` reads the names before the buffers, whose shapes depend on them."""

    def extra_repr(self) -> str:
        """Embodiments with their sizes, for printing."""
        return ", ".join(f"{name}: {size}" for name, size in self._sizes.items())

    def _row(self, name: str) -> _Row:
        index, size = self.embodiments.index(name), self._sizes[name]
        return self.q01[index, :size], self.q99[index, :size], self.normalized[index, :size]

    def _append(self, name: str, row: _Row) -> None:
        size = row[0].numel()
        for buffer, value in zip(_ROW, row, strict=True):
            old = getattr(self, buffer)
            new = old.new_zeros(len(self._sizes) + 1, max(old.shape[1], size))
            new[:-1, : old.shape[1]] = old
            new[-1, :size] = value.to(new)
            setattr(self, buffer, new)
        self.sizes = torch.cat([self.sizes, self.sizes.new_tensor([size])])
        self._sizes[name] = size

    def _gather(
        self, actions: MaskedActions, embodiments: Sequence[str]
    ) -> tuple[
        Float[Tensor, "batch horizon channel"],
        Float[Tensor, "batch 1 channel"],
        Float[Tensor, "batch 1 channel"],
        Bool[Tensor, "batch 1 channel"],
        Bool[Tensor, "batch 1 channel"],
    ]:
        """Values with padding 0, q01, q99, which channels are normalised and which have statistics."""
        batch, _, channels = actions.values.shape
        if isinstance(embodiments, str) or len(embodiments) != batch:
            raise ShapeError(
                f"embodiments must name every sample ({batch}), got {embodiments!r}. Give a list, one name per sample."
            )
        missing = sorted(set(embodiments) - set(self._sizes))
        if missing:
            raise MissingStatisticsError(
                f"embodiments must have statistics, got {missing} without; known are {sorted(self._sizes)}. "
                "Add them with QuantileNormalizer.add, or load the checkpoint that carries them."
            )
        largest = max((self._sizes[name] for name in embodiments), default=0)
        if largest > channels:
            raise ShapeError(
                f"actions must be padded to {largest} channels or more for {sorted(set(embodiments))}, got {channels}. "
                "Raise channels in MaskedActions.pad."
            )
        places = {name: index for index, name in enumerate(self._sizes)}
        rows = torch.tensor([places[name] for name in embodiments], dtype=torch.int64, device=self.q01.device)
        q01, q99, scaled = (_fit(buffer[rows], channels)[:, None] for buffer in (self.q01, self.q99, self.normalized))
        inside = torch.arange(channels, device=rows.device) < self.sizes[rows][:, None, None]
        dtype = torch.promote_types(actions.values.dtype, torch.float32)
        values = torch.where(actions.mask, actions.values, 0).to(dtype)
        return values, q01.to(dtype), q99.to(dtype), scaled, inside

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QuantileNormalizer":
        """Follow the model to a device but not to another precision, which would move the quantiles."""
        before = {name: getattr(self, name) for name in ("q01", "q99")}
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = getattr(self, name)
            if new.dtype != old.dtype:
                setattr(self, name, old.to(new.device))
        return self

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Make room for the embodiments of the checkpoint, refuse conflicts, then load as every module does."""
        needed = [f"{prefix}{key}" for key in (*_ROW, "sizes", "_extra_state")]
        if not all(key in state_dict for key in needed):
            missing_keys.extend(key for key in needed if key not in state_dict)
            return
        theirs = _read_checkpoint(state_dict, prefix=prefix)
        fingerprints = self.fingerprints
        differing = sorted(name for name in theirs if fingerprints.get(name, theirs[name][0]) != theirs[name][0])
        if differing:
            raise CheckpointError(
                f"{prefix}statistics of the checkpoint must be those of the normaliser, got others for {differing}. "
                "Load into an empty QuantileNormalizer, or give the new data set a name of its own."
            )
        if not set(fingerprints) <= set(theirs):
            raise CheckpointError(
                f"{prefix}embodiments of the checkpoint must have those of the normaliser {sorted(fingerprints)}, "
                f"got {sorted(theirs)}. Load into an empty QuantileNormalizer and add the new ones afterwards."
            )
        for key in (*_ROW, "sizes"):
            old = getattr(self, key)
            setattr(self, key, old.new_zeros(state_dict[f"{prefix}{key}"].shape))
        self._sizes = {name: size for name, (_, size) in theirs.items()}
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _fingerprint(row: _Row) -> str:
    q01, q99, normalized = row
    digest = hashlib.sha256(QuantileStats(q01, q99).fingerprint.encode())
    digest.update(bytes(normalized.tolist()))
    return digest.hexdigest()[:16]


def _is_constant(q01: Tensor, q99: Tensor) -> Tensor:
    return q99 - q01 <= _EPSILON * torch.maximum(q01.abs(), q99.abs())


def _fit(buffer: Tensor, channels: int) -> Tensor:
    """Cut or zero-pad the last axis to `channels`."""
    return functional.pad(buffer[:, :channels], (0, max(0, channels - buffer.shape[1])))


def _masked(values: Tensor, *, inside: Tensor, like: MaskedActions) -> MaskedActions:
    values = torch.where(inside, values, torch.nan)
    return MaskedActions(torch.where(like.mask, values, 0).to(like.values.dtype), like.mask)


def _read_checkpoint(state_dict: Mapping[str, Any], *, prefix: str) -> dict[str, tuple[str, int]]:
    """Embodiment name -> (fingerprint, size), checked against the numbers that stand beside them."""
    q01, q99, normalized, sizes = (state_dict[f"{prefix}{key}"] for key in (*_ROW, "sizes"))
    names = json.loads(bytes(state_dict[f"{prefix}_extra_state"].tolist()))
    found = {}
    for index, (name, size) in enumerate(zip(names, sizes.tolist(), strict=True)):
        fingerprint = _fingerprint((q01[index, :size].float(), q99[index, :size].float(), normalized[index, :size]))
        if fingerprint != names[name]:
            raise CheckpointError(
                f"{prefix}statistics of {name!r} must have the fingerprint {names[name]}, got {fingerprint}. "
                "The checkpoint was changed after training, perhaps cast to half precision; take the original."
            )
        found[name] = (fingerprint, size)
    return found
