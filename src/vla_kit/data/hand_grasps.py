"""Eigengrasps of data sets: PCA over the finger poses of all hands, in memory that does not grow with their number."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from vla_kit.actions import HAND_SIDES, NUM_GRASPS, EigengraspBasis
from vla_kit.data.eigengrasp_file import save_eigengrasps
from vla_kit.data.source import EpisodeSource
from vla_kit.errors import DataError, MissingExtraError, SettingError

try:
    from sklearn.decomposition import IncrementalPCA
except ImportError as error:
    raise MissingExtraError("scikit-learn", extra="hands") from error

__all__ = ["finger_blocks", "fit_eigengrasps", "write_eigengrasps"]

_BLOCK: Final = 8192


def fit_eigengrasps(sources: Sequence[EpisodeSource], *, count: int = NUM_GRASPS) -> EigengraspBasis:
    """Fit a basis to the fingers of both hands in every frame in which they were seen.

    Scikit-learn's `IncrementalPCA` takes blocks of 8,192 poses and keeps all 45 directions between them, so the result
    is that of a PCA over everything at once, up to rounding; the first `count` are kept at the end. Memory: an
    episode and two blocks.

    Args:
        sources: Data sets with the columns of a `HandSource`; all human sets of a run, since the basis is fitted once.
        count: Directions to keep, 1 to 45.

    Returns:
        The basis. Each direction points so that its largest entry is positive.

    Raises:
        DataError: If there are not more poses than directions.
        SettingError: If `count` is out of range.

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.2: fitted once over all human data sets.
    """
    if not 1 <= count <= 45:
        raise SettingError(f"count must lie in [1, 45], got {count}. Qwen-VLA takes {NUM_GRASPS}.")
    model: IncrementalPCA | None = None
    seen = 0
    for block in _merged(finger_blocks(sources)):
        model = model or IncrementalPCA(n_components=min(45, len(block)))
        model.partial_fit(block)
        seen += len(block)
    if model is None or seen <= count:
        raise DataError(
            f"sources must hold more poses of hands that were seen than directions ({count}), got {seen}. Add data "
            "sets, or keep fewer directions."
        )
    directions = model.components_[:count]
    largest = np.abs(directions).argmax(axis=1)
    directions = directions * np.sign(directions[np.arange(count), largest])[:, None]
    return EigengraspBasis(torch.from_numpy(model.mean_).float(), torch.from_numpy(directions).float())


def finger_blocks(sources: Sequence[EpisodeSource]) -> Iterator[Float[ndarray, "pose 45"]]:
    """Finger poses of the hands that were seen, episode after episode.

    Args:
        sources: Data sets with the columns of a `HandSource`.
    """
    for source in sources:
        for index in range(len(source.lengths)):
            for side in HAND_SIDES:
                seen = source.column(index, f"{side}.seen")[:, 0] != 0
                if seen.any():
                    yield source.column(index, f"{side}.fingers")[seen]


def _merged(poses: Iterator[ndarray]) -> Iterator[ndarray]:
    """Blocks of 8,192 rows; the last has up to twice as many, so that it is never too small."""
    waiting: list[ndarray] = []
    for one in poses:
        waiting.append(one)
        while sum(map(len, waiting)) >= 2 * _BLOCK:
            together = np.concatenate(waiting)
            yield together[:_BLOCK]
            waiting = [together[_BLOCK:]]
    if waiting:
        yield np.concatenate(waiting)


def write_eigengrasps(path: str, *, sets: Sequence[str], count: int = NUM_GRASPS) -> None:
    """Fit a basis to data sets and write it: the verb `vla-kit data eigengrasps`.

    Args:
        path: File to write, `.safetensors`.
        sets: Folders or files of human data, of any format that needs no further options.
        count: Directions to keep.

    Raises:
        DataError: If a set is missing, broken, or without hands.
    """
    from vla_kit.data.readers.open import open_source  # formats load their libraries when asked for

    sources = [open_source(root) for root in sets]
    for source in sources:
        if "right.fingers" not in source.columns:
            raise DataError(
                f"{source.location} must hold human hands, got the columns {sorted(source.columns)}. Leave it out."
            )
    save_eigengrasps(fit_eigengrasps(sources, count=count), path)
