"""The decisions of many episodes in one order, with their rewards: what a step of reinforcement learning is given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vla_kit.errors import DataError
from vla_kit.flow import StochasticPath
from vla_kit.policy import PolicyObservation
from vla_kit.protocols import Context
from vla_kit.training.drawn_chunk import DrawnChunk, join_contexts
from vla_kit.training.rollout import PlayedEpisode, RolloutSeconds

__all__ = ["RolloutBatch"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RolloutBatch:
    """Decisions of whole episodes, one episode after another.

    Args:
        episodes: The episodes, those that failed to run included.
        seen: Observation of each decision.
        contexts: What the backbone made of them, without padding; empty where the backbone learns.
        path: How the chunks were drawn.
        mask: True where an entry of a chunk is real.
        carried: True where it was carried out too; what came after the end of an episode changed nothing.
        rewards: 1 for the chunk that solved the task, else 0.
        values: What the value head expected before each chunk.
        next_values: The same after each chunk; of an episode that ran out of time, of its last pictures, or
            0 where nobody looked.
        terminated: True where a chunk solved the task.
        truncated: True where time ran out.
        episode: Number of the episode of each decision, among those with decisions.
        seconds: Where the time of the rollout went.
    """

    episodes: Sequence[PlayedEpisode]
    seen: Sequence[PolicyObservation]
    contexts: Sequence[Context]
    path: StochasticPath
    mask: Bool[Tensor, "decision horizon channel"]
    carried: Bool[Tensor, "decision horizon channel"]
    rewards: Float[Tensor, " decision"]
    values: Float[Tensor, " decision"]
    next_values: Float[Tensor, " decision"]
    terminated: Bool[Tensor, " decision"]
    truncated: Bool[Tensor, " decision"]
    episode: Int[Tensor, " decision"]
    seconds: RolloutSeconds

    def __len__(self) -> int:
        return len(self.seen)

    @property
    def embodiments(self) -> list[str]:
        """Robot of each decision."""
        return [one.embodiment for one in self.seen]

    @property
    def datasets(self) -> list[str]:
        """Task of each decision, in place of the data set of a demonstration."""
        return [episode.planned.task for episode in self.episodes for _ in episode.chunks]

    @classmethod
    def of(
        cls,
        episodes: Sequence[PlayedEpisode],
        *,
        value: Callable[[Sequence[PolicyObservation]], Sequence[float]],
        seconds: RolloutSeconds,
    ) -> "RolloutBatch":
        """Line up the decisions of episodes.

        Args:
            episodes: As they were played.
            value: What the value head expects of observations, asked where time ran out.
            seconds: Where the time of the rollout went.

        Returns:
            The batch.

        Raises:
            DataError: If no episode could be played.
        """
        played = [episode for episode in episodes if episode.chunks]
        if not played:
            errors = {episode.error for episode in episodes}
            raise DataError(
                f"episodes must hold at least one that was played, got errors alone: {sorted(map(str, errors))}."
            )
        timeouts = [episode.timeout for episode in played if episode.timeout is not None]
        left = iter(value(timeouts) if timeouts else ())
        decisions: list[DrawnChunk] = []
        steps, next_values, last, success, member = [], [], [], [], []
        for number, episode in enumerate(played):
            values = [chunk.decision.value for chunk in episode.chunks]
            next_values += [*values[1:], 0.0 if episode.timeout is None else next(left)]
            for place, chunk in enumerate(episode.chunks, start=1):
                decisions.append(chunk.decision)
                steps.append(chunk.steps)
                last.append(place == len(episode.chunks))
                success.append(episode.success)
                member.append(number)
        ended, solved = torch.tensor(last), torch.tensor(success)
        mask = torch.stack([decision.mask for decision in decisions])
        reached = torch.arange(mask.shape[1]) < torch.tensor(steps)[:, None]
        return cls(
            episodes=episodes,
            seen=[chunk.seen for episode in played for chunk in episode.chunks],
            contexts=[decision.context for decision in decisions if decision.context is not None],
            path=StochasticPath.cat([decision.path for decision in decisions]),
            mask=mask,
            carried=mask & reached[..., None],
            rewards=(ended & solved).float(),
            values=torch.tensor([decision.value for decision in decisions]),
            next_values=torch.tensor(next_values),
            terminated=ended & solved,
            truncated=ended & ~solved,
            episode=torch.tensor(member),
            seconds=seconds,
        )

    def context(self, rows: Sequence[int]) -> Context:
        """What the backbone made of some observations, one batch."""
        return join_contexts([self.contexts[row] for row in rows])
