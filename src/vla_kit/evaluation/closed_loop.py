"""Success in closed loop while a run trains: the number that a loss does not tell."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng

from vla_kit.embodiment import History
from vla_kit.envs import EnvHost, EnvWorker, env_workers
from vla_kit.errors import SettingError
from vla_kit.evaluation.rollout import evaluate
from vla_kit.evaluation.seeds import evaluation_seeds
from vla_kit.evaluation.table import SuccessCount
from vla_kit.evaluation.task import EvaluationTask, registered_task
from vla_kit.policy import ChunkExecutor, Policy

__all__ = ["ClosedLoop", "undisturbed"]


class ClosedLoop(Callback):
    """Evaluates the model in simulators every so many optimiser steps, and logs success with its interval.

    Logged are `closed_loop/<task>/success`, `low`, `high` (Wilson's 95 %) and `errors` of each task, and
    `closed_loop/success`, the rate over all episodes, which a `ModelCheckpoint` may monitor. Training goes on as if
    nothing had happened: the mode of every module and the state of every generator of random numbers are those of
    before, so the losses are the same bit for bit.

    Processes of one run divide the episodes among themselves. The weights are those that train, not an average.

    Args:
        tasks: Names in the registry, such as `metaworld/faucet-open`.
        every_n_steps: Optimiser steps from one evaluation to the next.
        episodes: Episodes per task, on seeds of their own beside those of the final evaluation: who chooses a
            checkpoint by this number must not report it.
        replan_every: Actions used of each chunk.
        history: Earlier frames that the policy sees too, as in its training data.
        workers: Environments in processes of their own, for each process of the run; 0 runs one in this process.
        timeout_s: Longest time that a worker may take for one chunk of actions [s].
        image_size: Height and width of the pictures, as in training [pixel].
        temperature: Factor on the noise of the policy.

    Raises:
        SettingError: If a task is unknown or a number is out of range, or the strategy divides the weights.

    Examples:
        >>> ClosedLoop(["metaworld/faucet-open"], every_n_steps=500, episodes=10).every_n_steps
        500
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        every_n_steps: int = 1000,
        episodes: int = 20,
        replan_every: int = 8,
        history: History | None = None,
        workers: int = 2,
        timeout_s: float = 60.0,
        image_size: int = 96,
        temperature: float = 1.0,
    ) -> None:
        if not tasks:
            raise SettingError("tasks must name at least one task, got none. Name one such as metaworld/reach.")
        for name, value, least in (
            ("every_n_steps", every_n_steps, 1),
            ("episodes", episodes, 1),
            ("workers", workers, 0),
        ):
            if value < least:
                raise SettingError(f"{name} must be at least {least}, got {value}. Raise it.")
        if not 0 <= temperature < math.inf:
            raise SettingError(f"temperature must be at least 0 and finite, got {temperature}. Use 1.0.")
        ChunkExecutor(replan_every=replan_every)
        EnvWorker(timeout_s=timeout_s)
        self.tasks: list[EvaluationTask] = [registered_task(task, image_size=image_size) for task in tasks]
        self.every_n_steps = every_n_steps
        self.seeds = evaluation_seeds(episodes, offset=_OFFSET)
        self.replan_every = replan_every
        self.history = history
        self.workers = workers
        self.timeout_s = timeout_s
        self.temperature = temperature
        self._evaluated = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse strategies whose processes must all run the model at once."""
        if isinstance(trainer.strategy, (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)):
            raise SettingError(
                f"strategy must keep the weights whole in every process, got {type(trainer.strategy).__name__}. "
                "Evaluate its checkpoints with vla-kit evaluate instead."
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Evaluate, where it is time."""
        step = trainer.global_step
        if step % self.every_n_steps or step == self._evaluated:
            return
        self._evaluated = step
        with undisturbed(pl_module), ExitStack() as stack:
            hosts: Sequence[EnvHost] = ()
            if self.workers:
                hosts = stack.enter_context(env_workers(self.workers, timeout_s=self.timeout_s))
            counts = {task.name: self._count(trainer, pl_module, task, hosts) for task in self.tasks}
        values: dict[str, float] = {}
        for name, count in counts.items():
            rank_zero_info(f"step {step}: {name} {count}")
            low, high = count.interval
            values |= {f"closed_loop/{name}/low": low, f"closed_loop/{name}/high": high}
            values |= {f"closed_loop/{name}/success": count.rate, f"closed_loop/{name}/errors": float(count.errors)}
        first, *rest = counts.values()
        values["closed_loop/success"] = sum(rest, first).rate
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})

    def _count(
        self, trainer: Trainer, pl_module: LightningModule, task: EvaluationTask, hosts: Sequence[EnvHost]
    ) -> SuccessCount:
        seeds = self.seeds[trainer.global_rank :: trainer.world_size]
        count = torch.zeros(3, dtype=torch.long, device=pl_module.device)
        if seeds:
            policy = Policy.from_module(pl_module, temperature=self.temperature)  # type: ignore[arg-type]  # a VLAModule
            found = SuccessCount.of(
                evaluate(
                    policy,
                    task.make_env,
                    seeds,
                    replan_every=self.replan_every,
                    history=self.history,
                    workers=hosts,
                )
            )
            count += torch.tensor([found.successes, found.episodes, found.errors], device=count.device)
        summed: torch.Tensor = trainer.strategy.reduce(count, reduce_op="sum")
        successes, episodes, errors = summed.tolist()
        return SuccessCount(successes, episodes, errors=errors)


@contextmanager
def undisturbed(module: torch.nn.Module) -> Iterator[None]:
    """Whatever a block does, the modes of a model and the random generators of the process are as before it.

    Args:
        module: The model; each module within has its own mode.
    """
    modes = [(part, part.training) for part in module.modules()]
    with isolate_rng():
        try:
            yield
        finally:
            for part, mode in modes:
                part.training = mode


_OFFSET = 500_000
"""Seeds between those of the final evaluation and these."""
