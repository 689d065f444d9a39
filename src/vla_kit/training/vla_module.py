"""Training of a vision-language-action model: parts in, losses, logs and an optimiser out."""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from vla_kit.actions import ActionSpace, EigengraspBasis, MaskedActions, QuantileNormalizer, QuantileStats
from vla_kit.data.collate import Batch
from vla_kit.embodiment import EmbodimentPrompter, StateScaler
from vla_kit.errors import EmbodimentError, SettingError
from vla_kit.heads.state_token import state_channels
from vla_kit.losses import FlowMatchingLoss, JointLoss
from vla_kit.metrics.action_error import ActionError
from vla_kit.policy import Solver, predict_actions
from vla_kit.policy.prediction import read_context
from vla_kit.policy.states import state_scaler
from vla_kit.protocols import Backbone, Context, Conversation, Observation
from vla_kit.training._fit import check_fit
from vla_kit.training._hparams import record_hyperparameters
from vla_kit.training.parameter_groups import parameter_groups
from vla_kit.training.schedule import Schedule
from vla_kit.training.sharding import shard

__all__ = ["VLAModule"]


class VLAModule(LightningModule):
    """Trains backbone and action head together on demonstrations, and the backbone on conversations beside them.

    Every step: native actions are normalised, the backbone runs once over robots and conversations, the flow-matching
    loss asks the head about the robots alone, the next-token loss the language head about the answers alone. A batch
    may lack either. Among several processes the head then looks at one empty chunk, so that all do the same work.
    Backbone and head have learning rates and warm-ups of their own; both decay along half a cosine over the steps of
    the run. Logged are `train/loss`, `train/loss/<embodiment>`, `val/loss` (of actions, the same noise every time) and
    `val/error/...`, the mean absolute error of sampled actions in native units; with conversations `train/language` and
    `val/language`, the next-token losses [nat]. Means are over the samples and tokens of a process.

    Normalisers may be empty: the datamodules of this folder add the statistics of their data before training, and a
    checkpoint carries them.

    Args:
        backbone: Satisfies `Backbone`.
        head: Satisfies `VelocityField` and has `channels`.
        prompter: Writes the prompts; knows every robot of the data.
        normalizer: Statistics of the robots, or empty.
        flow_loss: Draws noise and times, and asks the head.
        loss: Weights the parts of the loss.
        solver: Integrates the velocity in validation and prediction.
        backbone_learning_rate: Peak learning rate of the backbone.
        head_learning_rate: Peak learning rate of the head.
        backbone_warmup_steps: Optimiser steps of the backbone's linear warm-up.
        head_warmup_steps: Optimiser steps of the head's linear warm-up.
        final_learning_rate: Learning rate at the end, as a share of the peak, in [0, 1].
        weight_decay: Decay of matrices; vectors (norms, biases) have none.
        betas: Of AdamW.
        freeze: Modules that do not learn, by name in this module: `backbone`, `backbone.model.model.visual`. They stay
            in evaluation mode.
        sample_in_validation: Whether validation samples actions for `val/error`, which costs the solver's steps.
        state_normalizer: Statistics of the states, or empty; where prompter or head reads the robot's state, and only
            there.
        head_wrapper: Makes the head that is trained of `head`, such as `StateTokenHead`: so a file of YAML adds it to a
            head of any size. `head` itself where None.
        hand_basis: Eigengrasps of human hands, the basis that the data were read with, such as `load_eigengrasps`
            gives; checkpoint and policy carry it, so that predicted weights can become fingers. None without hands.

    Raises:
        SettingError: If `freeze` names no module, nothing is left to learn, `state_normalizer` does not fit prompter
            and head, or a number is out of range.

    Source:
        Qwen-VLA, arXiv 2605.30280, sections 2.5, 3.1 and 4: joint loss, separate schedules for backbone and action
        decoder, cosine decay. T2A trains the head alone there (`freeze: [backbone]`). Learning rates, warm-up, decay
        and optimiser are not published; AdamW with these betas is starVLA's.
    """

    added_parts: tuple[str, ...] = ()
    """Parts that the stage before does not have; `WarmStart` leaves them as they are."""

    def __init__(
        self,
        *,
        backbone: nn.Module,
        head: nn.Module,
        prompter: EmbodimentPrompter,
        normalizer: QuantileNormalizer,
        flow_loss: FlowMatchingLoss,
        loss: JointLoss,
        solver: Solver,
        backbone_learning_rate: float = 1e-5,
        head_learning_rate: float = 1e-4,
        backbone_warmup_steps: int = 1000,
        head_warmup_steps: int = 1000,
        final_learning_rate: float = 0.0,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.95),
        freeze: Sequence[str] = (),
        sample_in_validation: bool = True,
        state_normalizer: QuantileNormalizer | None = None,
        head_wrapper: Callable[[nn.Module], nn.Module] | None = None,
        hand_basis: EigengraspBasis | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head if head_wrapper is None else head_wrapper(head)
        self.prompter = prompter
        self.normalizer = normalizer
        self.state_normalizer = state_normalizer
        self.hand_basis = hand_basis
        self.flow_loss = flow_loss
        self.loss = loss
        self.solver = solver
        self.learning_rates = {"backbone": backbone_learning_rate, "head": head_learning_rate}
        self.warmup_steps = {"backbone": backbone_warmup_steps, "head": head_warmup_steps}
        self.final_learning_rate = final_learning_rate
        self.weight_decay = weight_decay
        self.sample_in_validation = sample_in_validation
        for name, value in (
            ("backbone_learning_rate", backbone_learning_rate),
            ("head_learning_rate", head_learning_rate),
            ("weight_decay", weight_decay),
        ):
            if not 0 <= value < math.inf:
                raise SettingError(f"{name} must be at least 0 and finite, got {value}. Use 0 for none.")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise SettingError(f"betas must be two numbers in [0, 1), got {betas}. Use (0.9, 0.95).")
        for name, steps in (
            ("backbone_warmup_steps", backbone_warmup_steps),
            ("head_warmup_steps", head_warmup_steps),
        ):
            if steps < 0:
                raise SettingError(f"{name} must be at least 0, got {steps}. Use 0 for no warm-up.")
        if not 0 <= final_learning_rate <= 1:
            raise SettingError(f"final_learning_rate must lie in [0, 1], got {final_learning_rate}. It is a share.")
        self.betas = (betas[0], betas[1])
        self.state_scaler()
        self.action_error = ActionError(self.action_spaces)
        self.parts: dict[str, Tensor] = {}
        self._frozen = self._freeze(freeze)
        record_hyperparameters(self)

    @property
    def channels(self) -> int:
        """Padded action width, the head's."""
        channels: Any = self.head.channels
        return int(channels)

    @property
    def action_spaces(self) -> dict[str, ActionSpace]:
        """Embodiment -> action space, of every robot that the prompter knows."""
        return {name: self.prompter.spec(name).action_space for name in self.prompter.names}

    def prepare(
        self, observations: Sequence[Observation | Conversation], *, with_labels: bool = False
    ) -> dict[str, Tensor]:
        """What the backbone makes of observations and conversations before it runs; for data workers."""
        backbone = cast(Backbone, self.backbone)
        return backbone.prepare(observations, with_labels=True) if with_labels else backbone.prepare(observations)

    def add_statistics(self, embodiment: str, stats: QuantileStats) -> None:
        """Tell the normaliser the statistics of a robot; the same ones again change nothing.

        Args:
            embodiment: Name of the robot, known to the prompter.
            stats: Statistics of its data set.

        Raises:
            EmbodimentError: If the prompter does not know the robot.
            StatisticsError: If sizes differ, or the normaliser, perhaps from a checkpoint, has other statistics.
        """
        self.normalizer.add(embodiment, stats, self.prompter.spec(embodiment).action_space)

    def add_state_statistics(self, embodiment: str, stats: QuantileStats) -> None:
        """Tell the normaliser of the states the statistics of a robot; the same ones again change nothing.

        Args:
            embodiment: Name of the robot, known to the prompter.
            stats: Statistics of its states.

        Raises:
            EmbodimentError: If the prompter does not know the robot, or the robot has no `state_space`.
            SettingError: If the model reads no state.
            StatisticsError: If sizes differ, or the normaliser, perhaps from a checkpoint, has other statistics.
        """
        space = self.prompter.spec(embodiment).state_space
        if space is None:
            raise EmbodimentError(f"{embodiment!r} must have a state_space, got none. Name the channels of its state.")
        if self.state_normalizer is None:
            raise SettingError(
                "state_normalizer must be given to a model that reads states, got None. Give an empty one."
            )
        self.state_normalizer.add(embodiment, stats, space)

    def state_scaler(self) -> StateScaler | None:
        """What makes the states of samples readable, with a copy of the statistics on the CPU, for data workers.

        Returns:
            The scaler; None where the model reads no state.
        """
        return state_scaler(
            None if self.state_normalizer is None else deepcopy(self.state_normalizer).cpu(),
            prompter=self.prompter,
            head=self.head,
            channels=self.channels,
        )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model by name.

        Raises:
            CheckpointError: If keys or shapes of its weights differ.
        """
        state: dict[str, Tensor] | None = checkpoint.get("state_dict")
        if state is not None:  # a sharded one was loaded before
            remedy = "Build the model with the settings that it was trained with."
            check_fit(state, self.state_dict(), source="one", remedy=remedy)

    def configure_model(self) -> None:
        """Divide backbone and head among the processes, where the strategy does that: `ShardedStrategy`."""
        mesh: Any = self.device_mesh
        if mesh is not None:
            shard((self.backbone, self.head), mesh["data_parallel"])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch, logged per robot too."""
        per_sample, language = self._losses(batch)
        total = self.loss(action=per_sample, language=language)
        self.log("train/loss", total, prog_bar=True, batch_size=len(batch))
        if per_sample is not None:
            self.log_dict(
                {f"train/loss/{name}": value for name, value in _by_embodiment(per_sample.detach(), batch).items()},
                batch_size=len(batch),
            )
        if batch.conversations and language is not None:
            self.log("train/language", language.detach(), batch_size=batch.conversations)
        self.parts = {
            name: part.mean() for name, part in (("action", per_sample), ("language", language)) if part is not None
        }
        return total

    def on_after_backward(self) -> None:
        """Let go of the graph."""
        self.parts = {}

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Losses with fixed noise, and error of sampled actions in native units."""
        generator = torch.Generator(self.device).manual_seed(batch_idx)
        per_sample, language = self._losses(batch, generator=generator)
        if batch.conversations and language is not None:
            settings: Any = {"sync_dist": True, "add_dataloader_idx": False}
            self.log("val/language", language, batch_size=batch.conversations, **settings)
        robots = len(batch.embodiments)
        if per_sample is None or not robots:
            return
        total = self.loss(action=per_sample)
        self.log("val/loss", total, prog_bar=True, batch_size=robots, sync_dist=True, add_dataloader_idx=False)
        if self.sample_in_validation:
            native = self._predict(batch, generator=generator)
            self.action_error.update(native.values, batch.actions.values, batch.actions.mask, batch.embodiments)

    def on_validation_epoch_end(self) -> None:
        """Log the error of each robot that was seen, and of each of its channels."""
        if self.sample_in_validation:
            errors = self.action_error.compute()
            self.log_dict({f"val/error/{name}": error for name, error in errors.items() if not error.isnan()})
            self.action_error.reset()

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """As validation."""
        self.validation_step(batch, batch_idx, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        """As validation."""
        self.on_validation_epoch_end()

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Float[Tensor, "step size"]]:
        """Native actions for each sample, on the CPU."""
        return [chunk.cpu() for chunk in self._predict(batch).cut(batch.sizes)]

    def configure_optimizers(self) -> Any:  # noqa: ANN401 (one of many forms that Lightning takes)
        """AdamW with a group per part, and for each group a schedule over the steps of the run."""
        groups = parameter_groups(
            {"backbone": self.backbone, "head": self.head}, self.learning_rates, weight_decay=self.weight_decay
        )
        total_steps = self.trainer.estimated_stepping_batches
        schedules: list[Callable[[int], float]] = [
            Schedule(self.warmup_steps[group["part"]], float(total_steps), self.final_learning_rate) for group in groups
        ]
        optimizer = AdamW(groups, betas=self.betas)
        scheduler = LambdaLR(optimizer, schedules)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def train(self, mode: bool = True) -> "VLAModule":
        """Set the mode; frozen modules stay in evaluation mode."""
        super().train(mode)
        for module in getattr(self, "_frozen", ()):
            module.eval()
        return self

    def _losses(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, " robot"] | None, Float[Tensor, ""] | None]:
        """Flow loss of each robot, and next-token loss of the batch, of one pass through the backbone."""
        context = read_context(batch.backbone_inputs, batch.embodiments, backbone=self.backbone, state=batch.state)
        robots = len(batch.embodiments)
        if robots:
            if batch.context_tokens is not None:
                context = context.leading(robots, tokens=batch.context_tokens)
            actions = self.normalizer.normalize(batch.actions, batch.embodiments)
        elif self._trainer is not None and self.trainer.world_size > 1:
            context, actions = self._nobody(context, batch.actions.values.dtype)
        else:
            return None, context.language_loss
        return self.flow_loss(self.head, actions, context, generator=generator), context.language_loss

    def _nobody(self, context: Context, dtype: torch.dtype) -> tuple[Context, MaskedActions]:
        """An empty chunk behind the first token: the head of every process takes part in every step."""
        name = self.prompter.names[0]
        values = torch.zeros(1, self.prompter.spec(name).chunk_size, self.channels, device=self.device, dtype=dtype)
        width = state_channels(self.head)
        state = None if width is None else torch.zeros(1, width, device=self.device, dtype=dtype)
        context = replace(
            context.leading(1, tokens=1),
            embodiments=(name,),
            state=state,
            state_mask=None if state is None else state.bool(),
        )
        return context, MaskedActions(values, values.bool())

    def _predict(self, batch: Batch, *, generator: torch.Generator | None = None) -> MaskedActions:
        return predict_actions(
            batch.backbone_inputs,
            batch.actions.mask,
            batch.embodiments,
            backbone=cast(Backbone, self.backbone),
            head=self.head,
            normalizer=self.normalizer,
            solver=self.solver,
            state=batch.state,
            generator=generator,
        )

    def _freeze(self, names: Sequence[str]) -> tuple[nn.Module, ...]:
        modules = dict(self.named_modules())
        unknown = [name for name in names if not name or name not in modules]
        if unknown:
            parts = [name for name in modules if name and name.count(".") < 2]
            raise SettingError(f"freeze must name modules such as {parts}, got {unknown}. Check the spelling.")
        for name in names:
            modules[name].requires_grad_(False)
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise SettingError(f"freeze must leave something to learn, got {list(names)}. Take a part off the list.")
        return tuple(modules[name].eval() for name in names)


def _by_embodiment(per_sample: Float[Tensor, " batch"], batch: Batch) -> dict[str, Tensor]:
    """Mean of the samples of each robot."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(batch.embodiments):
        rows.setdefault(name, []).append(row)
    return {name: per_sample[indices].mean() for name, indices in sorted(rows.items())}
