"""First, middle and last frame of an episode, small enough to lie inside a page."""

import base64
import io
from typing import Final

from PIL import Image

from vla_kit.data.source import EpisodeSource
from vla_kit.errors import DataError

__all__ = ["thumbnails"]

_WIDTH: Final = 176


def thumbnails(source: EpisodeSource, index: int, *, camera: str | None) -> list[str | None]:
    """First, middle and last frame as data URLs.

    Args:
        source: Data set.
        index: Episode.
        camera: Key of the camera; None where there is none.

    Returns:
        Three JPEGs; None in place of a frame that cannot be read. Empty without camera or frames.

    Examples:
        >>> import numpy as np
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> pictures = {"top": np.zeros((5, 8, 8, 3), dtype=np.uint8)}
        >>> source = MemorySource([MemoryEpisode(columns={"action": np.zeros((5, 1))}, cameras=pictures)])
        >>> [frame[:23] for frame in thumbnails(source, 0, camera="top")]
        ['data:image/jpeg;base64,', 'data:image/jpeg;base64,', 'data:image/jpeg;base64,']
    """
    length = int(source.lengths[index])
    if camera is None or not length:
        return []
    return [_thumbnail(source, index, camera, frame) for frame in (0, length // 2, length - 1)]


def _thumbnail(source: EpisodeSource, index: int, camera: str, frame: int) -> str | None:
    try:
        pixels = source.images(index, camera, [frame])[0]
    except (DataError, OSError):
        return None
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    picture.thumbnail((_WIDTH, _WIDTH))
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=78)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
