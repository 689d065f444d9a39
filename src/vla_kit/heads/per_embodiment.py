"""Action projection with networks of its own for each robot."""

from collections.abc import Sequence
from typing import cast

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vla_kit.errors import SettingError
from vla_kit.heads.projection import robot_rows

__all__ = ["PerEmbodimentProjection"]


class PerEmbodimentProjection(nn.Module):
    """A two-layer network into the head and one out of it for each robot; nothing is shared between robots.

    Give `DiTHead` the class with its robots as `projection`; the head adds its channels and width. The keys of a
    checkpoint carry the names, so a warm start with other robots is refused by name. A robot that is not in a batch
    gets a gradient of 0, not none, as distributed training expects.

    Args:
        channels: Padded action width, the head's.
        width: Features of a token, the head's.
        embodiments: Names of the robots; their order does not matter.

    Raises:
        SettingError: If there is no robot, one is named twice, a name holds a full stop, or a width is below 1.

    Examples:
        >>> from functools import partial
        >>> from vla_kit.heads import DiTHead
        >>> projection = partial(PerEmbodimentProjection, embodiments=["arm", "crane"])
        >>> head = DiTHead(context_width=6, channels=4, width=16, depth=1, num_heads=2, mlp_hidden=32,
        ...     projection=projection)
        >>> shared = DiTHead(context_width=6, channels=4, width=16, depth=1, num_heads=2, mlp_hidden=32)
        >>> head.parameter_table()["action_mlps"] / shared.parameter_table()["action_mlps"]
        2.0

    Source:
        Qwen-VLA, arXiv 2605.30280, section 5.2.2 and table 10, "Multi-MLP": as good as zero padding there, with
        parameters that grow with every robot. Weights picked by sample and multiplied in one batch, as in GR00T N1
        (arXiv 2503.14734).
    """

    # A head gives the first two, so a command line needs nothing but the robots.
    def __init__(self, channels: int, width: int, *, embodiments: Sequence[str]) -> None:
        super().__init__()
        self.embodiments = check_names(embodiments)
        check_sizes(channels, width)
        self.encoders = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))
                for name in self.embodiments
            }
        )
        self.decoders = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, channels))
                for name in self.embodiments
            }
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew; the last layer of each decoder is 0."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        for layer in self._layers(self.decoders, 2):
            nn.init.zeros_(layer.weight)

    def address(self, embodiments: Sequence[str], *, device: torch.device) -> Int[Tensor, " batch"]:
        """Row of each sample's robot.

        Raises:
            EmbodimentError: If a robot is not known.
        """
        return torch.tensor(robot_rows(embodiments, self.embodiments), device=device)

    def encode(
        self, actions: Float[Tensor, "batch_draw horizon channel"], address: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch_draw horizon width"]:
        """Tokens of noisy actions."""
        return self._through(self.encoders, actions, address)

    def decode(
        self, tokens: Float[Tensor, "batch_draw horizon width"], address: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch_draw horizon channel"]:
        """Velocities of tokens."""
        return self._through(self.decoders, tokens, address)

    def _through(
        self,
        networks: nn.ModuleDict,
        entries: Float[Tensor, "batch_draw horizon before"],
        address: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch_draw horizon after"]:
        draws = entries.shape[0] // address.shape[0]
        # The draws of a sample share its robot: side by side they need one copy of the weights instead of many.
        entries = rearrange(entries, "(batch draw) horizon entry -> batch (draw horizon) entry", draw=draws)
        entries = _batched(self._layers(networks, 0), entries, address)
        entries = _batched(self._layers(networks, 2), nn.functional.silu(entries), address)
        return rearrange(entries, "batch (draw horizon) entry -> (batch draw) horizon entry", draw=draws)

    def _layers(self, networks: nn.ModuleDict, number: int) -> list[nn.Linear]:
        return [cast(nn.Linear, cast(nn.Sequential, networks[name])[number]) for name in self.embodiments]


def check_names(embodiments: Sequence[str]) -> tuple[str, ...]:
    """Names of robots as keys of a checkpoint, sorted.

    Args:
        embodiments: Names of robots.

    Returns:
        The same, sorted.

    Raises:
        SettingError: If there is no robot, one is named twice, or a name holds a full stop.
    """
    if not embodiments or len(set(embodiments)) < len(embodiments):
        raise SettingError(f"embodiments must name each robot once, got {list(embodiments)}. List those of the data.")
    if any("." in name or not name for name in embodiments):
        raise SettingError(
            f"embodiments must be words without a full stop, got {list(embodiments)}. They become keys of checkpoints."
        )
    return tuple(sorted(embodiments))


def check_sizes(channels: int, width: int) -> None:
    """Refuse widths of a projection that no head has.

    Args:
        channels: Padded action width.
        width: Features of a token.

    Raises:
        SettingError: If one is below 1.
    """
    for name, value in (("channels", channels), ("width", width)):
        if value < 1:
            raise SettingError(f"{name} must be at least 1, got {value}. Use that of the head.")


def _batched(
    layers: Sequence[nn.Linear], entries: Float[Tensor, "batch row before"], address: Int[Tensor, " batch"]
) -> Float[Tensor, "batch row after"]:
    weight = torch.stack([layer.weight for layer in layers])[address]
    bias = torch.stack([layer.bias for layer in layers])[address]
    return torch.baddbmm(bias[:, None], entries, weight.mT)
