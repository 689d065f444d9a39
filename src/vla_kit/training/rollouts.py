"""Rollouts as the data of a run: environments that the module under training plays in."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import torch
from lightning.pytorch import LightningDataModule

from vla_kit.envs import EnvHost, EnvRecipe, PolicyEnv, make_env
from vla_kit.envs.places import EnvPlace, InProcesses
from vla_kit.envs.seeds import EVALUATION_SEEDS_FROM
from vla_kit.errors import SettingError
from vla_kit.training._loading import trainer_of
from vla_kit.training.difficulty import DifficultyShares
from vla_kit.training.flow_ppo import FlowPPOModule
from vla_kit.training.rollout import PlannedEpisode, play_episodes
from vla_kit.training.rollout_batch import RolloutBatch

__all__ = ["ROLLOUT_SEEDS_FROM", "RolloutDataModule"]

ROLLOUT_SEEDS_FROM: Final = 600_000
"""First seed of rollouts: above those of demonstrations, below those of evaluations."""


class RolloutDataModule(LightningDataModule):
    """Plays episodes with the module under training; an epoch is one batch, a rollout of whole episodes.

    So `trainer.max_epochs` counts rollouts.

    Tasks have episodes in proportion to their difficulty. A rollout is played when it is asked for, with the weights
    of that moment, so nothing is loaded ahead. Seeds, shares and counts go into the checkpoint: a run that goes on
    plays what it would have played.

    Where the environments run is the business of `place`: in this process, in processes of their own, of which one that
    crashes or hangs is restarted, on servers, or on a Ray cluster. The module does not see which.

    Args:
        tasks: Names in the registry, such as `metaworld/faucet-open`.
        envs: Environments of your own, each `class_path` and `init_args` of a class that satisfies `PolicyEnv`.
        episodes: Episodes of a rollout, over all tasks.
        tries: Episodes at each scene, for advantages of groups; divides `episodes`.
        environments: Environments that step in parallel.
        place: Where they run; `InProcesses()` where None.
        replan_every: Actions carried out of each chunk before the policy looks again.
        image_size: Height and width of the pictures of `tasks`, as in training [pixel].
        shares: Divides the episodes of a rollout among tasks.
        seed: Of the scenes.

    Raises:
        SettingError: If there is no task, or a number is out of range.

    Source:
        Qwen-VLA, arXiv 2605.30280, section 4.2: 128 environments, 8 rollout epochs of 128 steps, which is one episode
        of SimplerEnv each: 1,024 episodes per rollout, whose tasks are allocated by difficulty.
    """

    def __init__(
        self,
        tasks: Sequence[str] = (),
        *,
        envs: Sequence[dict[str, Any]] = (),
        episodes: int = 1024,
        tries: int = 1,
        environments: int = 128,
        place: EnvPlace | None = None,
        replan_every: int = 16,
        image_size: int = 96,
        shares: DifficultyShares | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (
            ("episodes", episodes),
            ("tries", tries),
            ("environments", environments),
            ("replan_every", replan_every),
            ("image_size", image_size),
        ):
            if value < 1:
                raise SettingError(f"{name} must be at least 1, got {value}. Raise it.")
        if seed < 0:
            raise SettingError(f"seed must be at least 0, got {seed}. Use 0.")
        if episodes % tries:
            raise SettingError(f"tries must divide episodes, got {tries} and {episodes}. Use 1 with advantages by GAE.")
        self.make_envs: dict[str, Callable[[], PolicyEnv]] = {
            task: partial(make_env, task, image_size=image_size) for task in tasks
        }
        for block in envs:
            recipe = EnvRecipe.parse(block)
            self.make_envs[f"{recipe.class_path.rpartition('.')[2]}-{len(self.make_envs)}"] = recipe
        if not self.make_envs:
            raise SettingError("tasks must name at least one task, got none. Name one such as metaworld/reach.")
        self.episodes = episodes
        self.tries = tries
        self.environments = environments
        self.place = InProcesses() if place is None else place
        self.replan_every = replan_every
        self.shares = DifficultyShares() if shares is None else shares
        self.seed = seed
        self.played = 0
        self._hosts: list[EnvHost] = []

    @property
    def families(self) -> dict[str, None]:
        """The tasks, as `RunStatus` counts data sets; they have no families."""
        return dict.fromkeys(self.make_envs)

    def setup(self, stage: str) -> None:
        """Refuse what one process cannot do.

        Raises:
            SettingError: If several processes train.
        """
        processes = trainer_of(self).world_size
        if processes > 1:
            raise SettingError(
                f"trainer.devices must be 1 for rollouts, got {processes} processes. Run environments on more machines "
                "instead, with place."
            )

    def train_dataloader(self) -> "_Rollouts":
        """One rollout per pass, played when it is asked for."""
        return _Rollouts(self)

    def play(self, module: FlowPPOModule) -> RolloutBatch:
        """Play the next rollout.

        Args:
            module: Acts.

        Returns:
            What came of it.
        """
        if not self._hosts:
            self._hosts = list(self.place.open_hosts(self.environments))
        actor = module.actor(self.played)
        plan = self._plan()
        played, seconds = play_episodes(
            plan,
            actor.decide,
            make_envs=self.make_envs,
            hosts=self._hosts[: len(plan)],
            replan_every=self.replan_every,
            see_timeouts=module.bootstrap_at_timeout,
        )
        for episode in played:
            if episode.error is not None:
                warnings.warn(f"episode {episode.planned} could not be played: {episode.error}", stacklevel=2)
        batch = RolloutBatch.of(played, value=actor.values, seconds=seconds)
        rates: dict[str, list[bool]] = {}
        for episode in played:
            if episode.error is None:
                rates.setdefault(episode.planned.task, []).append(episode.success)
        self.shares.update({task: sum(found) / len(found) for task, found in rates.items()})
        self.played += 1
        return batch

    def transfer_batch_to_device(self, batch: RolloutBatch, device: torch.device, dataloader_idx: int) -> RolloutBatch:
        """A rollout stays on the CPU; the module moves minibatches of it."""
        return batch

    def teardown(self, stage: str) -> None:
        """End the environments."""
        for host in self._hosts:
            with suppress(OSError):
                host.close()
        self._hosts = []

    def state_dict(self) -> dict[str, Any]:
        """Rollouts that were played, and how difficult the tasks are."""
        return {"played": self.played, "shares": self.shares.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on there."""
        self.played = int(state_dict["played"])
        self.shares.load_state_dict(state_dict["shares"])

    def _plan(self) -> list[PlannedEpisode]:
        scenes = self.shares.episodes(list(self.make_envs), self.episodes // self.tries)
        first = self.played * (self.episodes // self.tries) + self.seed * _STRIDE
        room = EVALUATION_SEEDS_FROM - ROLLOUT_SEEDS_FROM
        plan: list[PlannedEpisode] = []
        for task, count in scenes.items():
            for _ in range(count):
                seed = ROLLOUT_SEEDS_FROM + (first + len(plan) // self.tries) % room
                plan += [PlannedEpisode(number=len(plan) + one, task=task, seed=seed) for one in range(self.tries)]
        return plan


class _Rollouts:
    """A loader of one batch; it has a length, so that Lightning asks for none ahead."""

    def __init__(self, data: RolloutDataModule) -> None:
        self._data = data

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[RolloutBatch]:
        module: Any = trainer_of(self._data).lightning_module
        yield self._data.play(module)


_STRIDE: Final = 100_003
"""Seeds between those of two runs."""
