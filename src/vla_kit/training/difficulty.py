"""More episodes where a policy still fails."""

from collections.abc import Mapping

from vla_kit.errors import SettingError

__all__ = ["DifficultyShares"]


class DifficultyShares:
    """Shares of tasks in proportion to how often they are failed, smoothed over rollouts.

    A task that was never played counts as failed half of the time.

    Args:
        smoothing: Weight of what was known before a rollout, in [0, 1).
        least: Failure rate that every task counts with at least, so that none is forgotten, in (0, 1].

    Raises:
        SettingError: If a number is out of range.

    Examples:
        >>> shares = DifficultyShares(smoothing=0.0)
        >>> shares.update({"easy": 0.9, "hard": 0.4})
        >>> shares.episodes(["easy", "hard"], 70)
        {'easy': 10, 'hard': 60}

    Source:
        Qwen-VLA, arXiv 2605.30280, section 4.2: environments are allocated in proportion to difficulty. How difficulty
        is measured is not published; failure, smoothed, is ours.
    """

    def __init__(self, *, smoothing: float = 0.5, least: float = 0.1) -> None:
        if not 0 <= smoothing < 1:
            raise SettingError(f"smoothing must lie in [0, 1), got {smoothing}. Use 0.5.")
        if not 0 < least <= 1:
            raise SettingError(f"least must lie in (0, 1], got {least}. Use 0.1.")
        self.smoothing = smoothing
        self.least = least
        self._failure: dict[str, float] = {}

    def update(self, success: Mapping[str, float]) -> None:
        """Learn how often each task was solved in a rollout."""
        for task, rate in success.items():
            before = self._failure.get(task, 1 - rate)
            self._failure[task] = self.smoothing * before + (1 - self.smoothing) * (1 - rate)

    def episodes(self, tasks: list[str], total: int) -> dict[str, int]:
        """Divide episodes among tasks; each has one at least where there are enough.

        Args:
            tasks: Names.
            total: Episodes to divide.

        Returns:
            Task -> episodes, which sum to `total`.
        """
        weights = {task: max(self.least, self._failure.get(task, 0.5)) for task in tasks}
        scale = total / sum(weights.values())
        found = {task: max(1, int(weights[task] * scale)) for task in tasks}
        by_rest = sorted(tasks, key=lambda task: (-(weights[task] * scale - int(weights[task] * scale)), task))
        number = 0
        while (missing := total - sum(found.values())) != 0:
            task = by_rest[number % len(tasks)] if missing > 0 else max(found, key=lambda name: found[name])
            found[task] += 1 if missing > 0 else -1
            number += 1
        return found

    def state_dict(self) -> dict[str, float]:
        """Failure rate of each task."""
        return dict(self._failure)

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        """Go on from these."""
        self._failure = dict(state_dict)
