"""Pictures of an episode as a video that browsers play."""

import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vla_kit.data.video_pyav import PyAVEncoder

__all__ = ["encode_mp4"]


def encode_mp4(pictures: UInt8[np.ndarray, "step height image_width 3"], *, rate_hz: float = 10.0) -> bytes:
    """Encode pictures as one h264 file; an odd row or column is cut off, since 4:2:0 cannot hold it.

    Args:
        pictures: RGB in [0, 255].
        rate_hz: Frames per second.

    Returns:
        The content of an mp4 file.

    Examples:
        >>> encode_mp4(np.zeros((3, 32, 32, 3), dtype=np.uint8))[4:8]
        b'ftyp'
    """
    height, width = (size // 2 * 2 for size in pictures.shape[1:3])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "episode.mp4"
        with PyAVEncoder(path, rate_hz=rate_hz, height=height, width=width, crf=23, keyframe_interval=30) as encoder:
            encoder.write(np.ascontiguousarray(pictures[:, :height, :width]))
        return path.read_bytes()
