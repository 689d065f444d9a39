"""How hard actions and language pull at the backbone, measured in a run, and a rule that keeps their ratio."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from vla_kit.errors import SettingError
from vla_kit.training.vla_module import VLAModule

__all__ = ["BalanceRule", "GradientBalance", "KeepRatio"]


@runtime_checkable
class BalanceRule(Protocol):
    """Chooses the weight of the language loss from two measured gradients."""

    def weight(self, *, action: float, language: float, before: float) -> float:
        """Weight of the language loss.

        Args:
            action: Norm of the weighted gradient of the action loss, above 0.
            language: Norm of the gradient of the language loss, without a weight, above 0.
            before: The weight so far.
        """
        ...


class KeepRatio:
    """Lets language pull at the backbone with a fixed share of the strength of actions; satisfies `BalanceRule`.

    The weight moves a share of the way, in its logarithm, at every measurement.

    Args:
        ratio: Gradient of language over that of actions, both weighted, above 0.
        share: How far the weight goes towards what the last measurement asks for, in (0, 1].

    Raises:
        SettingError: If a number is out of range.

    Examples:
        >>> KeepRatio(0.5, share=1.0).weight(action=2.0, language=4.0, before=1.0)
        0.25

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.5: weights of pretraining are "tuned to balance gradient magnitudes"; how
        is not published. This rule is ours, after GradNorm (arXiv 1711.02257).
    """

    def __init__(self, ratio: float = 1.0, *, share: float = 0.1) -> None:
        if not 0 < ratio < float("inf"):
            raise SettingError(f"ratio must be above 0 and finite, got {ratio}. Use 1 for equal strength.")
        if not 0 < share <= 1:
            raise SettingError(f"share must lie in (0, 1], got {share}. Use 0.1.")
        self.ratio = ratio
        self.share = share

    def weight(self, *, action: float, language: float, before: float) -> float:
        """Weight of the language loss; see `BalanceRule`."""
        wanted = self.ratio * action / language
        return float(wanted**self.share * before ** (1 - self.share))


class GradientBalance(Callback):
    """Measures the gradients of the two losses at the backbone every so many steps, and may move the language weight.

    Logged are the norms of the weighted gradients, `gradient/action` and `gradient/language`, their ratio
    `gradient/ratio` (language over action), and `gradient/language_weight`. Norms are over all parameters of the
    backbone that learn, and the root of the mean square over processes. A measurement goes back through the network
    once more for each loss, so the steps that measure cost up to two more backward passes and the memory of a gradient;
    others cost nothing. Where a process has a batch that lacks one of the losses, nothing is measured, nor while a new
    head, which answers 0, asks nothing of the backbone.

    Args:
        every_n_steps: Optimiser steps between measurements, at least 1.
        rule: Moves `language_weight` of the module's loss after each measurement; the weight is then part of the
            checkpoint. It stays as it is where None.

    Raises:
        SettingError: If `every_n_steps` is below 1; (in a run) if the weights are divided among processes, or a rule
            should move a weight of 0.

    Examples:
        >>> GradientBalance(every_n_steps=100, rule=KeepRatio(0.5)).rule.ratio
        0.5
    """

    def __init__(self, *, every_n_steps: int = 100, rule: BalanceRule | None = None) -> None:
        if every_n_steps < 1:
            raise SettingError(f"every_n_steps must be at least 1, got {every_n_steps}. Use 100.")
        self.every_n_steps = every_n_steps
        self.rule = rule
        self._weight: float | None = None
        self._measured = -1

    def on_fit_start(self, trainer: Trainer, pl_module: VLAModule) -> None:  # type: ignore[override]  # of VLAModule alone
        """Refuse what cannot be measured, and take the weight of a checkpoint."""
        if isinstance(pl_module.backbone, FSDPModule):
            raise SettingError(
                "strategy must not divide the weights where gradients of single losses are measured, got "
                f"{type(trainer.strategy).__name__}. Leave GradientBalance out, or train with ddp."
            )
        if self.rule is not None and not pl_module.loss.language_weight:
            raise SettingError("language_weight must be above 0 where a rule moves it, got 0. Begin with 0.1.")
        if self._weight is not None:
            pl_module.loss.language_weight = self._weight

    def on_before_backward(self, trainer: Trainer, pl_module: VLAModule, loss: Tensor) -> None:  # type: ignore[override]  # of VLAModule alone
        """Measure, while the graph is there."""
        if trainer.global_step % self.every_n_steps or trainer.global_step == self._measured:
            return
        self._measured = trainer.global_step
        weights = {"action": pl_module.loss.action_weight, "language": pl_module.loss.language_weight}
        learning = [entry for entry in pl_module.backbone.parameters() if entry.requires_grad]
        norms = {name: weight * _norm(pl_module.parts, name, learning, loss) for name, weight in weights.items()}
        both = torch.stack([norms["action"], norms["language"]])
        squares: Any = trainer.strategy.reduce(torch.cat([both.square(), (both > 0).to(both)]), reduce_op="mean")
        if bool((squares[2:] < 1).any()):
            return
        action, language = squares[:2].sqrt().tolist()
        if self.rule is not None:
            before = pl_module.loss.language_weight
            self._weight = self.rule.weight(action=action, language=language / before, before=before)
            pl_module.loss.language_weight = self._weight
        logged = {"action": action, "language": language, "ratio": language / action}
        logged["language_weight"] = pl_module.loss.language_weight
        for logger in trainer.loggers:
            logger.log_metrics({f"gradient/{name}": value for name, value in logged.items()}, step=trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """The weight that the rule has reached."""
        return {"language_weight": self._weight}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._weight = state_dict["language_weight"]


def _norm(parts: Mapping[str, Tensor], name: str, learning: list[Any], loss: Tensor) -> Tensor:
    """Norm of the gradient of a loss at parameters; 0 where there is no such loss."""
    if name not in parts or not learning:
        return torch.zeros((), device=loss.device)
    found = torch.autograd.grad(parts[name], learning, retain_graph=True, allow_unused=True)
    norms = [torch.zeros((), device=loss.device), *(one.float().norm() for one in found if one is not None)]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm
