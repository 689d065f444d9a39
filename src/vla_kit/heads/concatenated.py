"""Action projection over one long vector in which every robot owns a slice."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vla_kit.errors import SettingError
from vla_kit.heads.per_embodiment import check_names, check_sizes
from vla_kit.heads.projection import robot_rows

__all__ = ["ConcatenatedProjection"]


class ConcatenatedProjection(nn.Module):
    """Puts the action of each robot into a slice of its own in a long vector; two networks on it serve all robots.

    A channel never means two things, as leading channels do under zero padding. The slices of all other robots are 0.
    Give `DiTHead` the class with its robots as `projection`; the head adds its channels and width. The keys of a
    checkpoint carry the names, so a warm start with other robots is refused by name.

    Args:
        channels: Padded action width, the head's.
        width: Features of a token, the head's.
        sizes: Robot -> native channels of its action. A real entry behind them is answered with NaN, so that a wrong
            size cannot go unnoticed.

    Raises:
        SettingError: If there is no robot, a name holds a full stop, a width is below 1, or a size is not within
            [1, channels].

    Examples:
        >>> from functools import partial
        >>> from vla_kit.heads import DiTHead
        >>> projection = partial(ConcatenatedProjection, sizes={"arm": 2, "crane": 3})
        >>> head = DiTHead(context_width=6, channels=4, width=16, depth=1, num_heads=2, mlp_hidden=32,
        ...     projection=projection)
        >>> head.projection.address(["crane", "arm"], device=torch.device("cpu"))  # 5 stands for nowhere
        tensor([[2, 3, 4, 5],
                [0, 1, 5, 5]])

    Source:
        Qwen-VLA, arXiv 2605.30280, section 5.2.2 and table 10, "Concat": as good as zero padding there. Each slice is
        initialised as a layer of its own.
    """

    # A head gives the first two, so a command line needs nothing but the robots.
    def __init__(self, channels: int, width: int, *, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.embodiments = check_names(list(sizes))
        check_sizes(channels, width)
        wrong = {name: size for name, size in sizes.items() if not 1 <= size <= channels}
        if wrong:
            raise SettingError(f"sizes must lie in [1, channels = {channels}], got {wrong}. Raise the head's channels.")
        self.channels = channels
        self.sizes = {name: sizes[name] for name in self.embodiments}
        self.enter = nn.ModuleDict({name: nn.Linear(size, width, bias=False) for name, size in self.sizes.items()})
        self.enter_bias = nn.Parameter(torch.zeros(width))
        self.encoder = nn.Sequential(nn.SiLU(), nn.Linear(width, width))
        self.decoder = nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.leave = nn.ModuleDict({name: nn.Linear(width, size) for name, size in self.sizes.items()})
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew; the last layer of the way out is 0."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.enter_bias)
        for layer in self._slices(self.leave):
            nn.init.zeros_(layer.weight)

    def address(self, embodiments: Sequence[str], *, device: torch.device) -> Int[Tensor, "batch channel"]:
        """Slot in the long vector for each channel of each sample; the length of the vector stands for nowhere.

        Raises:
            EmbodimentError: If a robot is not known.
        """
        total, slots = sum(self.sizes.values()), []
        first = 0
        for size in self.sizes.values():
            slots.append([*range(first, first + size), *([total] * (self.channels - size))])
            first += size
        return torch.tensor([slots[row] for row in robot_rows(embodiments, self.embodiments)], device=device)

    def encode(
        self, actions: Float[Tensor, "batch_draw horizon channel"], address: Int[Tensor, "batch channel"]
    ) -> Float[Tensor, "batch_draw horizon width"]:
        """Tokens of noisy actions."""
        total = sum(self.sizes.values())
        long = actions.new_zeros(*actions.shape[:2], total + 1).scatter(-1, _slots(address, actions), actions)
        weight = torch.cat([layer.weight for layer in self._slices(self.enter)], 1)
        tokens: Tensor = self.encoder(nn.functional.linear(long[..., :total], weight, self.enter_bias))
        return tokens

    def decode(
        self, tokens: Float[Tensor, "batch_draw horizon width"], address: Int[Tensor, "batch channel"]
    ) -> Float[Tensor, "batch_draw horizon channel"]:
        """Velocities of tokens; NaN for channels that the robot does not have."""
        layers = self._slices(self.leave)
        weight, bias = (torch.cat([getattr(layer, name) for layer in layers]) for name in ("weight", "bias"))
        long = nn.functional.linear(self.decoder(tokens), weight, bias)
        return nn.functional.pad(long, (0, 1), value=float("nan")).gather(-1, _slots(address, tokens))

    def _slices(self, layers: nn.ModuleDict) -> list[nn.Linear]:
        return [cast(nn.Linear, layers[name]) for name in self.embodiments]


def _slots(
    address: Int[Tensor, "batch channel"], entries: Float[Tensor, "batch_draw horizon entry"]
) -> Int[Tensor, "batch_draw horizon channel"]:
    """The address of each draw and step."""
    draws = entries.shape[0] // address.shape[0]
    return address.repeat_interleave(draws, 0)[:, None].expand(-1, entries.shape[1], -1)
