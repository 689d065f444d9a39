"""Reinforcement learning of a trained model: PPO on the steps of its flow, from success alone."""

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from vla_kit.errors import NonFiniteError, SettingError
from vla_kit.flow import GaussianTransitions, LearnedNoiseEuler
from vla_kit.heads import ValueHead
from vla_kit.losses import (
    ClippedValueLoss,
    PPOLoss,
    generalized_advantages,
    group_advantages,
    normalise_advantages,
)
from vla_kit.policy import Policy
from vla_kit.protocols import Context
from vla_kit.training._hparams import record_hyperparameters
from vla_kit.training.actor import BROKEN, Actor, StochasticSampler, move_context, velocity
from vla_kit.training.parameter_groups import parameter_groups
from vla_kit.training.rollout_batch import RolloutBatch
from vla_kit.training.schedule import Schedule
from vla_kit.training.vla_module import VLAModule

__all__ = ["FlowPPOModule"]

_DECISIONS_AT_ONCE: Final = 256


class FlowPPOModule(VLAModule):
    """Improves a trained model by its own success.

    A batch is a rollout: the decisions of whole episodes, see `RolloutDataModule`. Each chunk of actions is one
    decision. It is drawn by a sampler whose steps have densities, so that PPO can weigh it: `epochs` passes over
    minibatches, with advantages by GAE from a linear value head (`advantages: gae`), or against other tries at the same
    scene without one (`group`). Only what was carried out of a chunk enters its density. Solving the task pays 1 and
    ends the episode; where time runs out the value of the last pictures stands for what might have come.

    All parts stay in evaluation mode, so that the policy that learns is the one that acted. With `freeze: [backbone]`
    the context of each observation is computed once, in the rollout. Otherwise the backbone runs in each minibatch.

    Logged are `rollout/success`, `rollout/success/<task>`, `rollout/steps`, `rollout/errors` and `ppo/...` per rollout,
    and `time/simulation`, `time/policy` and `time/learning`, the shares of the time so far. Validation on
    demonstrations is that of `VLAModule`: it tells what is forgotten.

    Args:
        sampler: Draws chunks and knows their density.
        policy_loss: PPO's loss; its weights of divergence and entropy are 0 by default.
        value_loss: Loss of the value head.
        value_weight: Weight of the value head's loss.
        value_learning_rate: Learning rate of the value head.
        value_head: Satisfies the calls of `ValueHead`; one of the backbone's width where None.
        noise_head: How noisy steps are, for `LearnedNoiseEuler` and there alone; learns at the head's rate.
        epochs: Passes over each rollout.
        minibatch_size: Decisions per optimiser step.
        advantages: "gae", or "group" for tries at the same scene, see `RolloutDataModule.tries`.
        discount: Weight of the future, per chunk.
        trace: Weight of later errors in GAE.
        bootstrap_at_timeout: Whether an episode that ran out of time goes on in the mind of the value head; where
            False, running out of time is worth 0.
        temperature: Factor on the first noise of a chunk.
        gradient_clip: Norm to which the gradient of a step is clipped.
        target_kl: A rollout is left when the approximate divergence from the policy that acted exceeds this [nat]; None
            takes all epochs.
        seed: Of the order of minibatches and of the noise.
        **parts: Arguments of `VLAModule`. Its schedule counts rollouts here, not optimiser steps.

    Raises:
        SettingError: If a number is out of range, or an argument of `VLAModule` is refused.

    Source:
        Qwen-VLA, arXiv 2605.30280, section 4.2: PPO with GAE (0.99, 0.95), 4 epochs, decisions of whole chunks, value
        head by mean pooling with stop-gradient, rates 5e-6 and 1e-4, temperature 1.0. Which parts learn, minibatches
        and clipping are not published; RLinf trains the expert alone, with minibatches of 2048 and a norm of 1.0.
    """

    added_parts = ("value_head", "noise_head", "reference")

    def __init__(
        self,
        *,
        sampler: StochasticSampler,
        policy_loss: PPOLoss,
        value_loss: ClippedValueLoss,
        value_weight: float = 1.0,
        value_learning_rate: float = 1e-4,
        value_head: nn.Module | None = None,
        noise_head: nn.Module | None = None,
        epochs: int = 4,
        minibatch_size: int = 2048,
        advantages: Literal["gae", "group"] = "gae",
        discount: float = 0.99,
        trace: float = 0.95,
        bootstrap_at_timeout: bool = True,
        temperature: float = 1.0,
        gradient_clip: float = 1.0,
        target_kl: float | None = None,
        seed: int = 0,
        **parts: Any,  # noqa: ANN401 (arguments of VLAModule)
    ) -> None:
        super().__init__(**parts)
        for name, count in (("epochs", epochs), ("minibatch_size", minibatch_size)):
            if count < 1:
                raise SettingError(f"{name} must be at least 1, got {count}. The paper has 4 epochs.")
        if seed < 0:
            raise SettingError(f"seed must be at least 0, got {seed}. Use 0.")
        for name, value in (
            ("value_weight", value_weight),
            ("value_learning_rate", value_learning_rate),
            ("temperature", temperature),
        ):
            if not 0 <= value < math.inf:
                raise SettingError(f"{name} must be at least 0 and finite, got {value}. Use 0 for none.")
        for name, share in (("discount", discount), ("trace", trace)):
            if not 0 <= share <= 1:
                raise SettingError(f"{name} must lie in [0, 1], got {share}. The paper has 0.99 and 0.95.")
        for name, limit in (("gradient_clip", gradient_clip), ("target_kl", target_kl)):
            if limit is not None and not limit > 0:
                raise SettingError(f"{name} must be above 0, got {limit}. Use 1.0 to clip.")
        if advantages not in ("gae", "group"):
            raise SettingError(f"advantages must be 'gae' or 'group', got {advantages!r}. 'gae' is the paper's.")
        if isinstance(sampler, LearnedNoiseEuler) != (noise_head is not None):
            raise SettingError(
                f"noise_head must be given with LearnedNoiseEuler and with nothing else, got {noise_head} with "
                f"{sampler}. Use vla_kit.heads.NoiseHead."
            )
        self.automatic_optimization = False
        width: Any = self.backbone.width
        self.value_head = ValueHead(context_width=int(width)) if value_head is None else value_head
        self.noise_head = noise_head
        self.reference = deepcopy(self.head).requires_grad_(False) if policy_loss.kl_weight > 0 else None
        self.sampler = sampler
        self.policy_loss = policy_loss
        self.value_loss = value_loss
        self.value_weight = value_weight
        self.learning_rates |= {"value_head": value_learning_rate, "noise_head": self.learning_rates["head"]}
        self.warmup_steps |= {"value_head": 0, "noise_head": self.warmup_steps["head"]}
        self.epochs = epochs
        self.minibatch_size = minibatch_size
        self.advantages: Literal["gae", "group"] = advantages
        self.discount = discount
        self.trace = trace
        self.bootstrap_at_timeout = bootstrap_at_timeout
        self.temperature = temperature
        self.gradient_clip = gradient_clip
        self.target_kl = target_kl
        self.seed = seed
        self._went_on = False
        self._seconds: dict[str, float] = {}
        self._env_steps = self._episodes = 0
        record_hyperparameters(self)

    @property
    def learns_backbone(self) -> bool:
        """Whether any parameter of the backbone learns."""
        return any(parameter.requires_grad for parameter in self.backbone.parameters())

    def actor(self, rollout: int) -> Actor:
        """The policy as it explores in a rollout, with what the rollout's learning asks for.

        Args:
            rollout: Number of the rollout, for the noise.
        """
        generator = torch.Generator(self.device).manual_seed((self.seed * 1_000_003 + rollout) % 2**63)
        return Actor(
            self.policy(),
            sampler=self.sampler,
            value_head=self.value_head,
            noise_head=self.noise_head,
            temperature=self.temperature,
            keep_contexts=not self.learns_backbone,
            generator=generator,
            on_broken=self.keep_broken,
        )

    def policy(self) -> Policy:
        """The parts as a policy; they are shared."""
        return Policy.from_module(self)

    def training_step(self, batch: RolloutBatch, batch_idx: int) -> None:  # type: ignore[override]  # another batch
        """Learn from a rollout.

        Raises:
            NonFiniteError: If a loss or a gradient is inf or NaN; rollout and weights lie in `broken_batch.pt` of the
                run's folder.
        """
        start = time.perf_counter()
        try:
            watched = self._learn(batch)
        except NonFiniteError:
            self.keep_broken(
                {
                    "instructions": [one.instruction for one in batch.seen],
                    "actions": batch.path.actions,
                    "rewards": batch.rewards,
                    "values": batch.values,
                    "weights": self.state_dict(),
                }
            )
            raise
        self._log_rollout(batch, watched)
        for part, spent in (
            ("simulation", batch.seconds.simulation),
            ("policy", batch.seconds.policy),
            ("learning", time.perf_counter() - start),
        ):
            self._seconds[part] = self._seconds.get(part, 0.0) + spent
        total = sum(self._seconds.values())
        self.log_dict({f"time/{part}": spent / total for part, spent in self._seconds.items()}, batch_size=1)
        self.log("time/seconds", total, batch_size=1)

    def _learn(self, batch: RolloutBatch) -> list[dict[str, Tensor]]:
        """All optimiser steps of a rollout, and what to watch of each."""
        gains, returns = self._advantages(batch)
        with torch.no_grad():
            rows = torch.arange(len(batch)).split(_DECISIONS_AT_ONCE)
            old = torch.cat(
                [self._laws(batch, some)[0].log_prob(batch.path[some].to(self.device).after) for some in rows]
            )
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.trainer.global_step) % 2**63)
        watched: list[dict[str, Tensor]] = []
        left = False
        for _ in range(self.epochs):
            order = torch.randperm(len(batch), generator=generator)
            for rows in order.split(self.minibatch_size):
                terms = self._update(batch, rows, gains, returns, old)
                watched.append(terms)
                left = self.target_kl is not None and bool(terms["approximate_kl"] > self.target_kl)
                if left:
                    break
            if left:
                break
        for scheduler in _listed(self.lr_schedulers()):
            scheduler.step()
        return watched

    def configure_optimizers(self) -> Any:  # noqa: ANN401 (one of many forms that Lightning takes)
        """AdamW with a group per part; schedules count rollouts."""
        parts = {"backbone": self.backbone, "head": self.head, "value_head": self.value_head}
        if self.noise_head is not None:
            parts["noise_head"] = self.noise_head
        groups = parameter_groups(parts, self.learning_rates, weight_decay=self.weight_decay)
        total = float(self.trainer.estimated_stepping_batches)
        schedules: list[Callable[[int], float]] = [
            Schedule(self.warmup_steps[group["part"]], total, self.final_learning_rate) for group in groups
        ]
        optimizer = AdamW(groups, betas=self.betas)
        return {"optimizer": optimizer, "lr_scheduler": LambdaLR(optimizer, schedules)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from a checkpoint of this stage."""
        super().on_load_checkpoint(checkpoint)
        self._went_on = True
        counts = checkpoint["rollouts"]
        self._seconds, self._env_steps, self._episodes = dict(counts["seconds"]), counts["steps"], counts["episodes"]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep how much was played, and where the time went."""
        counts = {"seconds": dict(self._seconds), "steps": self._env_steps, "episodes": self._episodes}
        checkpoint["rollouts"] = counts

    def on_fit_start(self) -> None:
        """Remember the policy to stay close to: the one that this stage begins with."""
        if self.reference is not None and not self._went_on:
            self.reference.load_state_dict(self.head.state_dict())

    def keep_broken(self, content: dict[str, Any]) -> None:
        """Save what gave inf or NaN, in the folder of the run."""
        folder = Path(self.trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{BROKEN}.partial"
        torch.save(content, partial)
        partial.replace(folder / BROKEN)

    def train(self, mode: bool = True) -> "FlowPPOModule":
        """Evaluation mode always: the policy that learns is the one that acted."""
        super().train(False)
        return self

    def _advantages(self, batch: RolloutBatch) -> tuple[Float[Tensor, " decision"], Float[Tensor, " decision"]]:
        """Normalised advantages, and targets of the value head."""
        ended = batch.terminated | batch.truncated if not self.bootstrap_at_timeout else batch.terminated
        gains, returns = generalized_advantages(
            batch.rewards[:, None],
            batch.values[:, None],
            batch.next_values[:, None],
            ended[:, None],
            batch.truncated[:, None],
            discount=self.discount,
            trace=self.trace,
        )
        if self.advantages == "gae":
            return normalise_advantages(gains[:, 0]), returns[:, 0]
        played = [episode for episode in batch.episodes if episode.chunks]
        scenes: dict[tuple[str, int], int] = {}
        groups = [scenes.setdefault((one.planned.task, one.planned.seed), len(scenes)) for one in played]
        success = torch.tensor([float(episode.success) for episode in played])
        return group_advantages(success, torch.tensor(groups))[batch.episode], returns[:, 0]

    def _laws(
        self, batch: RolloutBatch, rows: Tensor
    ) -> tuple[GaussianTransitions, GaussianTransitions | None, Context]:
        """Steps of some decisions over what was carried out, under the head and the reference, and the context."""
        if batch.contexts:
            context = move_context(batch.context(rows.tolist()), self.device)
        else:
            context = self.policy().read([batch.seen[row] for row in rows.tolist()])
        path, mask = batch.path[rows].to(self.device), batch.mask[rows].to(self.device)
        carried = batch.carried[rows].to(self.device)
        law = replace(
            self.sampler.transitions(velocity(self.head, context, mask, self.noise_head), path, mask), mask=carried
        )
        if self.reference is None:
            return law, None, context
        with torch.no_grad():
            before = self.sampler.transitions(velocity(self.reference, context, mask, self.noise_head), path, mask)
        return law, before, context

    def _update(
        self,
        batch: RolloutBatch,
        rows: Tensor,
        gains: Float[Tensor, " decision"],
        returns: Float[Tensor, " decision"],
        old: Float[Tensor, "decision transition"],
    ) -> dict[str, Tensor]:
        """One optimiser step on a minibatch."""
        law, before, context = self._laws(batch, rows)
        device = self.device
        terms = self.policy_loss(
            law.log_prob(batch.path[rows].to(device).after),
            old[rows.to(device)],
            gains[rows].to(device),
            entries=batch.carried[rows].sum((1, 2)).to(device),
            kl=None if before is None else law.kl(before),
            entropy=law.entropy() if self.policy_loss.entropy_weight > 0 else None,
        )
        critic = self.value_loss(
            self.value_head(context).float(), batch.values[rows].to(device), returns[rows].to(device)
        )
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(terms.loss + self.value_weight * critic.loss)
        learning = [parameter for parameter in self.parameters() if parameter.grad is not None]
        norm = nn.utils.clip_grad_norm_(learning, self.gradient_clip)
        if not bool(norm.isfinite()):
            raise NonFiniteError(
                "gradients must be finite, got inf or NaN. Lower the learning rates, or raise the sampler's noise."
            )
        optimizer.step()
        return {
            "loss": terms.loss.detach(),
            "kl": terms.kl,
            "entropy": terms.entropy,
            "clip_fraction": terms.clip_fraction,
            "approximate_kl": terms.approximate_kl,
            "ratio_largest": terms.ratio_largest,
            "value_loss": critic.loss.detach(),
            "explained_variance": critic.explained_variance,
            "gradient_norm": norm.detach(),
        }

    def _log_rollout(self, batch: RolloutBatch, watched: Sequence[dict[str, Tensor]]) -> None:
        played = [episode for episode in batch.episodes if episode.chunks]
        tasks: dict[str, list[float]] = {}
        for episode in played:
            tasks.setdefault(episode.planned.task, []).append(float(episode.success))
        self._env_steps += sum(episode.steps for episode in played)
        self._episodes += len(played)
        values: dict[str, float] = {f"rollout/success/{task}": fmean(found) for task, found in sorted(tasks.items())}
        values |= {
            "rollout/success": fmean(float(episode.success) for episode in played),
            "rollout/errors": float(len(batch.episodes) - len(played)),
            "rollout/steps": float(self._env_steps),
            "rollout/episodes": float(self._episodes),
            "ppo/updates": float(len(watched)),
            "ppo/value": float(batch.values.mean()),
        }
        for name in watched[0]:
            values[f"ppo/{name}"] = float(torch.stack([terms[name].float() for terms in watched]).mean())
        self.log_dict(values, batch_size=1)
        self.log("success", values["rollout/success"], prog_bar=True, logger=False, batch_size=1)


def _listed(schedulers: Any) -> list[Any]:  # noqa: ANN401 (one, several or none)
    return schedulers if isinstance(schedulers, list) else [] if schedulers is None else [schedulers]
