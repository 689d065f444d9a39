"""Which episodes train and which validate."""

from collections.abc import Sequence

import torch

from vla_kit.errors import SettingError

__all__ = ["split_episodes"]


def split_episodes(episodes: Sequence[int], share: float, *, seed: int = 0) -> tuple[list[int], list[int]]:
    """Split episodes into training and validation, so that no episode is in both.

    Args:
        episodes: Indices.
        share: Share that validates, in [0, 1). Above 0 it is at least one episode, and one always trains.
        seed: Of the draw, which depends on nothing else.

    Returns:
        Training and validation episodes, each sorted.

    Raises:
        SettingError: If `share` is not in [0, 1).

    Examples:
        >>> train, validation = split_episodes(range(10), 0.2)
        >>> len(train), len(validation), set(train) & set(validation)
        (8, 2, set())
    """
    if not 0 <= share < 1:
        raise SettingError(f"validation_share must lie in [0, 1), got {share}. Use 0 for no validation.")
    count = min(max(1, round(share * len(episodes))), len(episodes) - 1) if share else 0
    order = torch.randperm(len(episodes), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [episodes[place] for place in order]
    return sorted(shuffled[count:]), sorted(shuffled[:count])
