"""Error of predicted actions in native units, per robot and channel."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics import Metric

from vla_kit.actions import ActionSpace
from vla_kit.errors import EmbodimentError, SettingError, ShapeError

__all__ = ["ActionError"]


class ActionError(Metric):
    """Mean absolute error over valid steps, per embodiment and channel, in the channel's own unit; sums over processes.

    Padding never contributes, whatever it holds. `compute` returns `"embodiment/channel"` -> error and
    `"embodiment"` -> mean over the channels that were seen (which mixes units: good for watching, not for reporting);
    NaN where nothing of a channel or an embodiment was seen.

    Args:
        spaces: Embodiment -> its action space, for all embodiments that may come.

    Raises:
        SettingError: If `spaces` is empty.

    Examples:
        >>> from vla_kit.actions import ChannelGroup
        >>> space = ActionSpace([ChannelGroup("x", kind="joint", reference="absolute", unit="rad")])
        >>> metric = ActionError({"arm": space})
        >>> target = torch.tensor([[[1.0, float("nan")]]])
        >>> metric.update(torch.zeros(1, 1, 2), target, torch.tensor([[[True, False]]]), ["arm"])
        >>> metric.compute()
        {'arm/x': tensor(1., dtype=torch.float64), 'arm': tensor(1., dtype=torch.float64)}

    Source:
        Qwen-VLA, arXiv 2605.30280, is silent on offline metrics; ours.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self, spaces: Mapping[str, ActionSpace]) -> None:
        super().__init__()
        if not spaces:
            raise SettingError("spaces must hold at least one embodiment, got none. Give the action spaces in use.")
        self.names = {embodiment: tuple(space.names) for embodiment, space in spaces.items()}
        shape = (len(self.names), max(len(names) for names in self.names.values()))
        self.add_state("total", default=torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        prediction: Float[Tensor, "batch horizon channel"],
        target: Float[Tensor, "batch horizon channel"],
        mask: Bool[Tensor, "batch horizon channel"],
        embodiments: Sequence[str],
    ) -> None:
        """Add a batch.

        Args:
            prediction: Predicted native actions.
            target: Native actions of the data.
            mask: True where an entry is real.
            embodiments: Robot of each sample.

        Raises:
            ShapeError: If shapes differ or are narrower than an embodiment's space.
            EmbodimentError: If an embodiment was not given to the constructor.
        """
        if prediction.shape != target.shape or mask.shape != target.shape:
            raise ShapeError(
                f"prediction and mask must have the shape of target {tuple(target.shape)}, got "
                f"{tuple(prediction.shape)} and {tuple(mask.shape)}. Build them with MaskedActions.pad."
            )
        if len(embodiments) != len(target):
            raise ShapeError(
                f"embodiments must name the robot of each of the {len(target)} samples, got {len(embodiments)}. "
                "Give one name per sample."
            )
        unknown = sorted(set(embodiments) - set(self.names))
        if unknown:
            raise EmbodimentError(
                f"embodiments must be among {sorted(self.names)}, got {unknown}. Add their spaces to ActionError."
            )
        width = self.total.shape[1]
        if target.shape[2] < max(len(self.names[name]) for name in embodiments):
            raise ShapeError(
                f"target must be as wide as the action spaces, got {target.shape[2]} channels. "
                "Pad to the width of the model."
            )
        error = torch.where(mask, (prediction - target).abs(), 0).double().sum(dim=1)[:, :width]
        valid = mask.sum(dim=1)[:, :width].double()
        order = {name: row for row, name in enumerate(self.names)}
        rows = torch.tensor([order[name] for name in embodiments], device=error.device)
        filled = slice(0, error.shape[1])
        # A model moved to bfloat16 takes its metrics along; sums stay float64.
        total, count = self.total.double().clone(), self.count.double().clone()
        total[:, filled] = total[:, filled].index_add(0, rows, error)
        count[:, filled] = count[:, filled].index_add(0, rows, valid)
        self.total, self.count = total, count

    def compute(self) -> dict[str, Tensor]:
        """Error of each channel, and its mean over the channels of each embodiment."""
        mean = self.total / self.count  # 0 / 0 = NaN: not seen
        result: dict[str, Tensor] = {}
        for row, (embodiment, names) in enumerate(self.names.items()):
            result |= {f"{embodiment}/{name}": mean[row, channel] for channel, name in enumerate(names)}
            result[embodiment] = mean[row, : len(names)].nanmean()
        return result
