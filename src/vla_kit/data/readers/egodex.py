"""Human hands as EgoDex records them: ARKit's joints of both hands and the camera, one HDF5 file per episode."""

from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy import ndarray

from vla_kit.actions import HandSide, retarget_points
from vla_kit.data.eigengrasp_file import load_eigengrasps
from vla_kit.data.readers._hdf5_files import HDF5Files, list_hdf5_files
from vla_kit.data.readers.hand_source import HandEpisode, HandSource
from vla_kit.data.readers.hand_tracks import HandRecord, HandTrack
from vla_kit.errors import DataError, MissingExtraError, SettingError

try:
    import h5py
except ImportError as error:
    raise MissingExtraError("h5py", extra="hands") from error

__all__ = ["is_egodex", "open_egodex", "read_egodex"]

_RATE_HZ: Final = 30.0
_JOINTS: Final = ("Knuckle", "IntermediateBase", "IntermediateTip", "Tip")
_POINTS: Final = (
    "Hand",
    *(
        f"{finger}{joint}"
        for finger in ("Thumb", "IndexFinger", "MiddleFinger", "RingFinger", "LittleFinger")
        for joint in _JOINTS
    ),
)


def open_egodex(
    root: str | Path, *, name: str | None = None, basis: str | None = None, confidence: float = 0.5
) -> HandSource:
    """Open episodes of EgoDex: `<task>/<number>.hdf5`, with the video `<number>.mp4` beside each where it is there.

    ARKit gives 25 joints of a hand, of which the 21 that MANO has are read: `Knuckle`, `IntermediateBase`,
    `IntermediateTip` and `Tip` of each finger and the wrist, `leftHand`; the four metacarpals are not. Their places are
    retargeted, see `retarget_points` and the page on hands for its error; their rotations are not read, for their axes
    differ from MANO's and from finger to finger.

    Args:
        root: File or folder.
        name: Name of the data set; the name of `root` where None.
        basis: File of `save_eigengrasps`, for the weights of the fingers.
        confidence: A hand counts as lost where ARKit's confidence in its wrist is below this, in [0, 1]; where the
            file has confidences.

    Raises:
        DataError: If a file is missing, broken or of another layout.
        SettingError: If `confidence` lies outside [0, 1].
        CheckpointError: If the basis cannot be read.

    Source:
        EgoDex, arXiv 2505.11709: 30 Hz, `transforms/<joint>` and `transforms/camera` in the world, and the attributes
        `llm_description` and `llm_description2`, of which `which_llm_description` names the better one.
    """
    if not 0 <= confidence <= 1:
        raise SettingError(f"confidence must lie in [0, 1], got {confidence}. Use 0 to take every hand.")
    files = HDF5Files()
    episodes = [_episode(files.open(path), path) for path in list_hdf5_files(Path(root))]
    files.close()
    return HandSource(
        episodes,
        load=partial(read_egodex, confidence=confidence),
        root=root,
        name=name,
        rate_hz=_RATE_HZ,
        basis=None if basis is None else load_eigengrasps(basis),
    )


def is_egodex(path: Path) -> bool:
    """Whether a file is an episode of EgoDex's layout.

    Examples:
        >>> is_egodex(Path("missing.hdf5"))
        False
    """
    try:
        with h5py.File(path, "r") as file:
            return "transforms/camera" in file and "transforms/leftHand" in file
    except OSError:
        return False


def read_egodex(path: Path, *, confidence: float = 0.5) -> HandRecord:
    """Hands of one file.

    Args:
        path: An `.hdf5`.
        confidence: As in `open_egodex`.

    Raises:
        DataError: If the file is broken or lacks a joint.
    """
    files = HDF5Files()
    file = files.open(path)
    tracks = {side: _track(file, side, confidence) for side in ("left", "right")}
    record = HandRecord(**tracks, camera=_transforms(file, "camera"))
    files.close()
    return record


def _track(file: h5py.File, side: HandSide, confidence: float) -> HandTrack:
    points = np.stack([_transforms(file, f"{side}{joint}")[:, :3, 3] for joint in _POINTS], axis=1)
    seen = np.isfinite(points).all(axis=(1, 2))
    trusted = file.get(f"confidences/{side}Hand")
    if trusted is not None:
        seen &= np.nan_to_num(np.asarray(trusted, dtype=np.float64).reshape(-1)) >= confidence
    wrist, fingers = retarget_points(torch.from_numpy(points), side=side)
    return HandTrack(wrist=wrist.numpy(), fingers=fingers.numpy(), seen=seen)


def _transforms(file: h5py.File, joint: str) -> ndarray:
    key = f"transforms/{joint}"
    if key not in file:
        raise DataError(f"{key} must be in the file, got {sorted(file.get('transforms', {}))}. It is not of EgoDex.")
    values = np.asarray(file[key], dtype=np.float64)
    if values.ndim != 3 or values.shape[1:] != (4, 4):
        raise DataError(f"{key} must have the shape (step, 4, 4), got {values.shape}. It is not of EgoDex.")
    return values


def _episode(file: h5py.File, path: Path) -> HandEpisode:
    length = len(_transforms(file, "camera"))
    better = "llm_description2" if str(file.attrs.get("which_llm_description", "1")) == "2" else "llm_description"
    text = file.attrs.get(better) or file.attrs.get("llm_description") or ""
    words = text.decode() if isinstance(text, bytes) else str(text)
    video = path.with_suffix(".mp4")
    return HandEpisode(
        path=path,
        length=length,
        sentences=((words, 0, length),) if words else (),
        video=video if video.is_file() else None,
    )
