"""Masked actions: chunks of different robots in one tensor, with a mask that says what is real."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vla_kit.actions.space import ActionSpace
from vla_kit.errors import DataError, DtypeError, ShapeError

__all__ = ["MaskedActions"]


@dataclass(frozen=True, eq=False)
class MaskedActions:
    """Action chunks of any robots, padded to one shape, and which entries are real.

    The channels of a robot lead, in their native order; the rest is padding, and so are the steps after the end of a
    chunk and entries that nobody knows, such as those of a hand out of sight. Whatever stands in a padded entry, NaN
    included, must change no loss, no gradient and no prediction.
    The constructor checks shapes and dtypes only; `pad` checks the contents too, once, where data enter.

    Args:
        values: Native or normalised actions.
        mask: True where an entry is real.

    Raises:
        ShapeError: If `values` is not three-dimensional or `mask` differs in shape.
        DtypeError: If `values` is not floating point or `mask` is not bool.

    Examples:
        >>> import torch
        >>> arm, base = torch.ones(2, 7), torch.ones(3, 2)
        >>> actions = MaskedActions.pad([arm, base], channels=8)
        >>> actions.values.shape, actions.mask.sum(dim=(1, 2))
        (torch.Size([2, 3, 8]), tensor([14,  6]))
        >>> [tuple(native.shape) for native in actions.cut([7, 2])]
        [(2, 7), (3, 2)]

    Source:
        Qwen-VLA, arXiv 2605.30280, sections 2.4 and 3.2.1: leading channels, zero padding, M[h, k] = 1 inside.
    """

    values: Float[Tensor, "batch horizon channel"]
    mask: Bool[Tensor, "batch horizon channel"]

    def __post_init__(self) -> None:
        if self.values.ndim != 3:
            raise ShapeError(
                f"values must have the axes (batch, horizon, channel), got shape {tuple(self.values.shape)}. "
                "Build it with MaskedActions.pad."
            )
        if self.mask.shape != self.values.shape:
            raise ShapeError(
                f"mask must have the shape of values {tuple(self.values.shape)}, got {tuple(self.mask.shape)}. "
                "Build both with MaskedActions.pad."
            )
        if not self.values.is_floating_point():
            raise DtypeError(f"values must be floating point, got {self.values.dtype}. Convert them with .float().")
        if self.mask.dtype != torch.bool:
            raise DtypeError(f"mask must be torch.bool, got {self.mask.dtype}. Compare or convert it with .bool().")

    @classmethod
    def pad(
        cls,
        natives: Sequence[Float[Tensor, "_step _size"]],
        *,
        channels: int = 64,
        horizon: int | None = None,
        valid: Sequence[Bool[Tensor, " _step"] | Bool[Tensor, "_step _size"]] | None = None,
    ) -> "MaskedActions":
        """Pad native chunks of any sizes and lengths to one shape.

        Args:
            natives: One `[step, size]` chunk per sample, all of one dtype and device.
            channels: Padded width, at least every `size`.
            horizon: Padded length, at least every `step`; the longest chunk where None.
            valid: Per sample, True where a step is real, or where an entry of `[step, size]` is. A chunk that runs over
                the end of its episode marks the steps behind the end False; a hand that was out of sight marks its
                channels False. Their values become padding. All True where None.

        Returns:
            Padded values, exactly 0 where the mask is False.

        Raises:
            ShapeError: If `natives` is empty, or a chunk is empty or larger than the padded shape.
            DtypeError: If a chunk is not a floating point tensor of the dtype of the others, or `valid` is not bool.
            DataError: If a real entry is NaN or infinite.

        Source:
            Qwen-VLA, arXiv 2605.30280. The paper does not print the width; 64 is derived from its parameter counts.
        """
        lengths = valid if valid is not None else [None] * len(natives)
        if len(natives) == 0:
            raise ShapeError("natives must hold at least one chunk, got none. Drop empty batches before padding.")
        if len(lengths) != len(natives):
            raise ShapeError(
                f"valid must hold one mask per chunk ({len(natives)}), got {len(lengths)}. Give all or None."
            )
        for index, native in enumerate(natives):
            _check_native(native, index=index, like=natives[0], channels=channels, horizon=horizon)
        horizon = horizon if horizon is not None else max(len(native) for native in natives)
        values = natives[0].new_zeros(len(natives), horizon, channels)
        mask = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
        for index, (native, real) in enumerate(zip(natives, lengths, strict=True)):
            steps, size = native.shape
            known = torch.ones_like(native, dtype=torch.bool)
            if real is not None:
                _check_valid(real, index=index, steps=steps, size=size)
                known &= (real if real.ndim == 2 else real[:, None]).to(native.device)
            values[index, :steps, :size] = torch.where(known, native, 0)
            mask[index, :steps, :size] = known
        finite = values.isfinite().flatten(1).all(dim=1).tolist()
        if not all(finite):
            raise DataError(
                f"natives must be finite in every valid step, got NaN or infinity in chunk {finite.index(False)}. "
                "Drop the frames, or mark the steps with valid."
            )
        return cls(values, mask)

    @classmethod
    def stack(cls, parts: Sequence["MaskedActions"]) -> "MaskedActions":
        """Join batches, of the same robots or of others, along the batch axis.

        Args:
            parts: Batches of one channel width, dtype and device. Shorter horizons are padded to the longest.

        Returns:
            One batch with the samples in order.

        Raises:
            ShapeError: If `parts` is empty or the widths differ.
            DtypeError: If the dtypes differ.

        Examples:
            >>> import torch
            >>> one = MaskedActions.pad([torch.ones(2, 7)])
            >>> MaskedActions.stack([one, MaskedActions.pad([torch.ones(4, 3)])]).values.shape
            torch.Size([2, 4, 64])
        """
        if len(parts) == 0:
            raise ShapeError(
                "parts must hold at least one MaskedActions, got none. Drop empty batches before stacking."
            )
        widths, dtypes = [part.values.shape[2] for part in parts], {part.values.dtype for part in parts}
        if len(set(widths)) > 1:
            raise ShapeError(
                f"parts must share one channel width, got {widths}. Pad all of them with the same channels."
            )
        if len(dtypes) > 1:
            raise DtypeError(
                f"parts must share one dtype, got {sorted(map(str, dtypes))}. Convert them with .to(dtype=...)."
            )
        horizon = max(part.values.shape[1] for part in parts)
        return cls(
            torch.cat([_lengthen(part.values, horizon) for part in parts]),
            torch.cat([_lengthen(part.mask, horizon) for part in parts]),
        )

    def cut(
        self, spaces: ActionSpace | int | Sequence[ActionSpace | int] | None = None
    ) -> list[Float[Tensor, "_step _size"]]:
        """Undo `pad`: the native chunk of every sample, up to its last real step.

        An entry that is unknown inside stays where it is, as it stands.

        Args:
            spaces: Action space or its size, one for all samples or one each. The channels up to the last real one
                where None, which are too few where the last channels of a robot are unknown.

        Returns:
            One `[step, size]` tensor per sample.

        Raises:
            ShapeError: If there are more or fewer spaces than samples, or a size leaves out real channels.

        Examples:
            >>> import torch
            >>> MaskedActions.pad([torch.tensor([[1.0, 2.0]])]).cut()
            [tensor([[1., 2.]])]
        """
        steps, found = (_up_to_last(self.mask.any(dim=axis)) for axis in (2, 1))
        if spaces is None:
            sizes = found
        elif isinstance(spaces, ActionSpace | int):
            sizes = [_size(spaces)] * len(self)
        else:
            sizes = [_size(space) for space in spaces]
        if len(sizes) != len(self):
            raise ShapeError(f"spaces must hold one entry per sample ({len(self)}), got {len(sizes)}. Give one each.")
        for index, (size, expected) in enumerate(zip(sizes, found, strict=True)):
            if expected > size:
                raise ShapeError(
                    f"spaces must fit the mask: sample {index} has {expected} channels, got a space of {size}. "
                    "Cut with the space of the sample's own robot."
                )
        return [values[:last, :size] for values, last, size in zip(self.values, steps, sizes, strict=True)]

    def zeroed(self) -> "MaskedActions":
        """Put an exact 0 in every padded entry, whatever stood there.

        Examples:
            >>> import torch
            >>> values = torch.tensor([[[1.0, float("nan")]]])
            >>> MaskedActions(values, torch.tensor([[[True, False]]])).zeroed().values
            tensor([[[1., 0.]]])
        """
        return MaskedActions(torch.where(self.mask, self.values, 0), self.mask)

    def to(
        self,
        device: torch.device | str | int | None = None,
        *,
        dtype: torch.dtype | None = None,
        non_blocking: bool = False,
    ) -> "MaskedActions":
        """Move both tensors to `device`; `dtype` changes the values only, the mask stays bool."""
        return MaskedActions(
            self.values.to(device=device, dtype=dtype, non_blocking=non_blocking),
            self.mask.to(device=device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> "MaskedActions":
        """Copy both tensors to pinned memory, as `DataLoader(pin_memory=True)` asks."""
        return MaskedActions(self.values.pin_memory(), self.mask.pin_memory())

    def __len__(self) -> int:
        return self.values.shape[0]


def _size(space: ActionSpace | int) -> int:
    return space.size if isinstance(space, ActionSpace) else space


def _up_to_last(real: Tensor) -> list[int]:
    """How many entries of each row there are up to the last real one."""
    places = torch.arange(1, real.shape[1] + 1, device=real.device)
    return (real * places).amax(dim=1).tolist() if real.shape[1] else [0] * len(real)


def _lengthen(tensor: Tensor, horizon: int) -> Tensor:
    missing = horizon - tensor.shape[1]
    if missing == 0:
        return tensor
    return torch.cat([tensor, tensor.new_zeros(tensor.shape[0], missing, tensor.shape[2])], dim=1)


def _check_native(native: Tensor, *, index: int, like: Tensor, channels: int, horizon: int | None) -> None:
    if not isinstance(native, Tensor) or not native.is_floating_point():
        kind = native.dtype if isinstance(native, Tensor) else type(native).__name__
        raise DtypeError(
            f"natives must hold floating point tensors, got {kind} in chunk {index}. Convert it to a float32 tensor."
        )
    if native.dtype != like.dtype:
        raise DtypeError(
            f"natives must share one dtype, got {like.dtype} and {native.dtype} in chunk {index}. Convert all of them."
        )
    if native.ndim != 2 or native.numel() == 0:
        raise ShapeError(
            f"natives must hold non-empty tensors of axes (step, size), got {tuple(native.shape)} in chunk {index}. "
            "Drop empty chunks; give a single step as action[None]."
        )
    steps, size = native.shape
    if size > channels:
        raise ShapeError(
            f"channels must be at least the size of every action, got {channels} and chunk {index} of {(steps, size)}. "
            "Raise channels."
        )
    if horizon is not None and steps > horizon:
        raise ShapeError(
            f"horizon must be at least the length of every chunk, got {horizon} and chunk {index} of {(steps, size)}. "
            "Raise horizon, or cut the chunk first."
        )


def _check_valid(valid: Tensor, *, index: int, steps: int, size: int) -> None:
    if valid.dtype != torch.bool:
        raise DtypeError(
            f"valid must hold torch.bool tensors, got {valid.dtype} in chunk {index}. Convert it with .bool()."
        )
    if tuple(valid.shape) not in ((steps,), (steps, size)):
        raise ShapeError(
            f"valid must have one entry per step ({steps},), got {tuple(valid.shape)} in chunk {index}. "
            f"Mark steps, or every number of them {(steps, size)}."
        )
