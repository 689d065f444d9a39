"""Frames of many episodes at once, in as few calls of the decoder as the data set allows."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from vla_kit.data.episodes import EpisodeReader
from vla_kit.data.source import EpisodeSource

__all__ = ["ScatteredFrames", "ScatteredImages", "clips_at", "frames_at", "images_at"]


@runtime_checkable
class ScatteredImages(Protocol):
    """A source that reads frames of several episodes together faster than one after the other."""

    def images_at(self, key: str, places: Sequence[tuple[int, int]]) -> list[UInt8[Tensor, "3 height image_width"]]:
        """RGB frames of one camera at `(episode, frame)`, in the order of `places`, repeats allowed.

        Raises:
            DataError: As `EpisodeSource.images` does.
        """
        ...


@runtime_checkable
class ScatteredFrames(Protocol):
    """A reader that does so."""

    def frames_at(self, places: Sequence[tuple[int, int]]) -> list[dict[str, UInt8[Tensor, "3 height image_width"]]]:
        """RGB frames per view tag at `(episode, frame)`, in the order of `places`, repeats allowed.

        Raises:
            DataError: As `EpisodeReader.frames` does.
        """
        ...


def images_at(
    source: EpisodeSource, key: str, places: Sequence[tuple[int, int]]
) -> list[UInt8[Tensor, "3 height image_width"]]:
    """Frames of one camera, whatever episodes they belong to.

    Args:
        source: Data set; its own `images_at` is used where it has one, else one call per episode.
        key: Camera.
        places: Episode and frame of each.

    Raises:
        DataError: As `EpisodeSource.images` does.

    Examples:
        >>> import numpy as np
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> dark, bright = (np.full((2, 1, 1, 3), level, dtype=np.uint8) for level in (0, 200))
        >>> source = MemorySource([MemoryEpisode(columns={}, cameras={"top": seen}) for seen in (dark, bright)])
        >>> [int(image[0, 0, 0]) for image in images_at(source, "top", [(1, 0), (0, 1), (1, 1)])]
        [200, 0, 200]
    """
    if isinstance(source, ScatteredImages):
        return source.images_at(key, places)
    images: dict[tuple[int, int], Tensor] = {}
    for episode, frames in _by_episode(places).items():
        seen = source.images(episode, key, frames)
        images.update(((episode, frame), image) for frame, image in zip(frames, seen, strict=True))
    return [images[place] for place in places]


def frames_at(
    reader: EpisodeReader, places: Sequence[tuple[int, int]]
) -> list[dict[str, UInt8[Tensor, "3 height image_width"]]]:
    """Frames of every view, whatever episodes they belong to.

    Args:
        reader: Data set; its own `frames_at` is used where it has one, else one call per episode.
        places: Episode and frame of each.

    Raises:
        DataError: As `EpisodeReader.frames` does.
    """
    if isinstance(reader, ScatteredFrames):
        return reader.frames_at(places)
    views: dict[tuple[int, int], dict[str, Tensor]] = {}
    for episode, frames in _by_episode(places).items():
        seen = reader.frames(episode, frames)
        for position, frame in enumerate(frames):
            views[episode, frame] = {tag: images[position] for tag, images in seen.items()}
    return [views[place] for place in places]


def clips_at(
    reader: EpisodeReader, clips: Sequence[tuple[int, Sequence[int]]]
) -> list[dict[str, UInt8[Tensor, "frame 3 height image_width"]]]:
    """Several frames of every view at once, each frame read once however many clips it belongs to.

    Args:
        reader: Data set.
        clips: Episode, and frames in the order wanted, of each.

    Returns:
        View tag -> frames, in the order of `clips`.

    Raises:
        DataError: As `EpisodeReader.frames` does.
    """
    places = sorted({(episode, frame) for episode, frames in clips for frame in frames})
    seen = dict(zip(places, frames_at(reader, places), strict=True))
    return [
        {tag: torch.stack([seen[episode, frame][tag] for frame in frames]) for tag in seen[episode, frames[-1]]}
        for episode, frames in clips
    ]


def _by_episode(places: Sequence[tuple[int, int]]) -> Mapping[int, list[int]]:
    """Episode -> its frames, each once, in rising order."""
    frames: dict[int, list[int]] = {}
    for episode, frame in sorted(set(places)):
        frames.setdefault(episode, []).append(frame)
    return frames
