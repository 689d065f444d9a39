"""States of robots as a model reads them: scaled by statistics of their own and padded to one width."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vla_kit.actions import MaskedActions, QuantileNormalizer
from vla_kit.embodiment.prompter import EmbodimentPrompter
from vla_kit.errors import DataError, MissingStatisticsError, SettingError, ShapeError, StatisticsError

__all__ = ["StateScaler"]


class StateScaler:
    """Brings the native states of a batch to [-1, 1], for the prompt and for the head, in training and on a robot.

    A robot whose spec has a `state_space` must give its state, all of it and finite. A robot without one has no state,
    whatever it gives, and its row is padding.

    Args:
        normalizer: Statistics of the states, beside those of the actions. It is used where it lies.
        prompter: Knows the `state_space` of every robot.
        channels: Padded width of the states, `state_channels` of a `StateTokenHead`.

    Raises:
        SettingError: If `channels` is below 1.

    Examples:
        >>> from vla_kit.actions import QuantileStats
        >>> from vla_kit.embodiment.presets import preset
        >>> sawyer, widowx = preset("metaworld_sawyer"), preset("widowx")
        >>> stats = QuantileStats(q01=torch.zeros(4), q99=torch.ones(4))
        >>> scale = StateScaler(
        ...     QuantileNormalizer({sawyer.name: stats}, spaces={sawyer.name: sawyer.state_space}),
        ...     prompter=EmbodimentPrompter([sawyer, widowx]),
        ...     channels=6,
        ... )
        >>> states = scale(["metaworld_sawyer", "widowx"], [torch.tensor([0.0, 0.5, 0.75, 1.0]), None])
        >>> states.values[0], states.mask.sum((1, 2))
        (tensor([[-1.0000,  0.0000,  0.5000,  1.0000,  0.0000,  0.0000]]), tensor([4, 0]))

    Source:
        Qwen-VLA, arXiv 2605.30280, section 5.2.4: the state as an ablation. How it is normalised is not said; we take
        the map of the actions, equation 5.
    """

    def __init__(self, normalizer: QuantileNormalizer, *, prompter: EmbodimentPrompter, channels: int = 64) -> None:
        if channels < 1:
            raise SettingError(f"channels must be at least 1, got {channels}. Use state_channels of the head.")
        self.normalizer = normalizer
        self.prompter = prompter
        self.channels = channels

    def __call__(
        self, embodiments: Sequence[str], states: Sequence[Float[Tensor, " _state_size"] | None]
    ) -> MaskedActions:
        """Scale and pad the states of a batch.

        Args:
            embodiments: Robot of each sample.
            states: Native state of each, None where there is none.

        Returns:
            Scaled states on the CPU, float32, each as a chunk of one step; padding is exactly 0.

        Raises:
            DataError: If a state is missing, or NaN or infinite.
            ShapeError: If a state has not the channels of its robot, or more than `channels`.
            MissingStatisticsError: If the states of a robot have no statistics.
            StatisticsError: If the statistics are of a state of another size.
            EmbodimentError: If a robot is unknown.
        """
        sizes = dict(zip(self.normalizer.embodiments, self.normalizer.sizes.tolist(), strict=True))
        rows: list[int] = []
        natives: list[Tensor] = []
        for row, (name, state) in enumerate(zip(embodiments, states, strict=True)):
            space = self.prompter.spec(name).state_space
            if space is not None:
                natives.append(_checked(state, name, space.names)[None].cpu().float())
                rows.append(row)
                _check_statistics(name, size=space.size, known=sizes.get(name))
        values = torch.zeros(len(embodiments), 1, self.channels)
        mask = torch.zeros(values.shape, dtype=torch.bool)
        if rows:
            padded = MaskedActions.pad(natives, channels=self.channels).to(self.normalizer.q01.device)
            scaled = self.normalizer.normalize(padded, [embodiments[row] for row in rows]).to("cpu")
            values[rows], mask[rows] = scaled.values, scaled.mask
        return MaskedActions(values, mask)


def _checked(state: Tensor | None, name: str, channels: tuple[str, ...]) -> Tensor:
    if state is None:
        raise DataError(
            f"state of {name!r} must be given to a policy that reads states, got none. Give {channels}, native, or use "
            "a policy without states."
        )
    if tuple(state.shape) != (len(channels),):
        raise ShapeError(
            f"state of {name!r} must have the shape ({len(channels)},), got {tuple(state.shape)}. Give {channels}."
        )
    if not bool(state.isfinite().all()):
        raise DataError(
            f"state of {name!r} must be finite, got {state.tolist()}. Look at the sensor, or drop the frame."
        )
    return state


def _check_statistics(name: str, *, size: int, known: int | None) -> None:
    if known is None:
        raise MissingStatisticsError(
            f"state of {name!r} must have statistics, got none. Load the checkpoint that carries them, or add them "
            "with QuantileNormalizer.add."
        )
    if known != size:
        raise StatisticsError(
            f"statistics of the state of {name!r} must have the {size} channels of its state_space, got {known}. Use "
            "the robot that the checkpoint was trained with."
        )
