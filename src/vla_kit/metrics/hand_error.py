"""Error of predicted hands: where the wrist is, how it is turned, and how the fingers are bent."""

from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics import Metric

from vla_kit.actions import (
    HAND_SIDES,
    EigengraspBasis,
    hand_channels,
    hand_points,
    joint_angles_between,
    rotation_angle,
    to_matrix,
)
from vla_kit.errors import ShapeError

__all__ = ["HandError"]

_NAMES: Final = ("wrist_cm", "wrist_deg", "joint_deg", "joint_cm")


class HandError(Metric):
    """Mean error of predicted hands over the steps at which they are known; sums over processes.

    - `wrist_cm`: distance of the wrists [cm].
    - `wrist_deg`: angle between their rotations [degree].
    - `joint_deg`: angle between the rotations of the 15 finger joints, their mean [degree].
    - `joint_cm`: distance of the 21 points of the hands, their mean [cm], on the bones of `REST_BONES`: of one hand,
      since actions do not say how large a hand is.

    `compute` gives these over both hands, and as `left/wrist_cm` and so on; NaN where a hand was never known. A hand
    counts at a step where all its 16 numbers are known; whatever stands elsewhere, NaN included, changes nothing.
    Wrists of prediction and target are relative to one frame, whichever it is, so its choice cannot change an error.

    Args:
        basis: Basis of the eigengrasp weights.

    Examples:
        >>> metric = HandError(EigengraspBasis(torch.zeros(45), torch.eye(45)[:10]))
        >>> target = torch.zeros(1, 1, 32)
        >>> target[..., 16] = 0.02
        >>> mask = torch.arange(32) >= 16
        >>> metric.update(torch.zeros(1, 1, 32), target, mask.expand(1, 1, 32))
        >>> metric.compute()["wrist_cm"].round(decimals=4), metric.compute()["left/wrist_cm"]
        (tensor(2., dtype=torch.float64), tensor(nan, dtype=torch.float64))

    Source:
        Qwen-VLA, arXiv 2605.30280, reports no error of hands; these are the usual ones of hand tracking.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self, basis: EigengraspBasis) -> None:
        super().__init__()
        self.basis = basis
        self.add_state("total", default=torch.zeros(2, len(_NAMES), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros(2, 1, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        prediction: Float[Tensor, "batch horizon channel"],
        target: Float[Tensor, "batch horizon channel"],
        mask: Bool[Tensor, "batch horizon channel"],
    ) -> None:
        """Add a batch.

        Args:
            prediction: Predicted native actions, the hands in the first 32 channels.
            target: Native actions of the data.
            mask: True where an entry is real.

        Raises:
            ShapeError: If shapes differ or there are fewer than 32 channels.
        """
        if prediction.shape != target.shape or mask.shape != target.shape or target.shape[-1] < 32:
            raise ShapeError(
                f"prediction, target and mask must have one shape (batch, horizon, 32 or more), got "
                f"{tuple(prediction.shape)}, {tuple(target.shape)} and {tuple(mask.shape)}. Give actions of hands."
            )
        # A model moved to bfloat16 takes its metrics along; sums stay float64.
        total, count = self.total.double().clone(), self.count.double().clone()
        for row, side in enumerate(HAND_SIDES):
            channels = hand_channels(side)
            known = mask[..., channels].all(dim=-1)
            predicted, real = (actions[..., channels][known].double() for actions in (prediction, target))
            total[row] += self._errors(predicted, real).sum(dim=0)
            count[row] += known.sum()
        self.total, self.count = total, count

    def compute(self) -> dict[str, Tensor]:
        """Mean errors over both hands, and of each."""
        both = self.total.sum(dim=0) / self.count.sum()  # 0 / 0 = NaN: never known
        result = dict(zip(_NAMES, both, strict=True))
        for row, side in enumerate(HAND_SIDES):
            means = self.total[row] / self.count[row]
            result |= {f"{side}/{name}": value for name, value in zip(_NAMES, means, strict=True)}
        return result

    def _errors(self, predicted: Float[Tensor, "hand 16"], real: Float[Tensor, "hand 16"]) -> Float[Tensor, "hand 4"]:
        poses, fingers = zip(*(self._pose(hand) for hand in (predicted, real)), strict=True)
        away = (poses[0][:, :3, 3] - poses[1][:, :3, 3]).norm(dim=-1)
        turned = torch.rad2deg(rotation_angle(poses[0][:, :3, :3].mT @ poses[1][:, :3, :3]))
        points = [hand_points(pose, bent) for pose, bent in zip(poses, fingers, strict=True)]
        return torch.stack(
            [
                100 * away,
                turned,
                joint_angles_between(*fingers).mean(dim=-1),
                100 * (points[0] - points[1]).norm(dim=-1).mean(dim=-1),
            ],
            dim=-1,
        )

    def _pose(self, hand: Tensor) -> tuple[Tensor, Tensor]:
        pose = torch.eye(4, dtype=hand.dtype, device=hand.device).repeat(len(hand), 1, 1)
        pose[:, :3, 3], pose[:, :3, :3] = hand[:, :3], to_matrix(hand[:, 3:6], "axis_angle")
        return pose, self.basis.decode(hand[:, 6:])
