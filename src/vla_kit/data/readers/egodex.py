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
    _check_confidence(confidence)
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
        SettingError: If `confidence` lies outside [0, 1].
    """
    _check_confidence(confidence)
    files = HDF5Files()
    file = files.open(path)
    tracks = {side: _track(file, side, confidence) for side in ("left", "right")}
    record = HandRecord(**tracks, camera=_transforms(file, "camera"))
    files.close()
    return record


def _check_confidence(confidence: float) -> None:
    if not 0 <= confidence <= 1:
        raise SettingError(f"confidence must lie in [0, 1], got {confidence}. Use 0 to take every hand.")


def _track(file: h5py.File, side: HandSide, confidence: float) -> HandTrack:
    steps = len(_transforms(file, "camera"))
    joints = [_transforms(file, f"{side}{joint}", steps=steps)[:, :3, 3] for joint in _POINTS]
    points = np.stack(joints, axis=1)
    seen = np.isfinite(points).all(axis=(1, 2))
    if f"confidences/{side}Hand" in file:
        trusted = _array(file, f"confidences/{side}Hand").reshape(-1)
        if len(trusted) != steps:
            raise DataError(
                f"confidences/{side}Hand must have a number for each of the {steps} frames, got {len(trusted)}. Copy "
                "the file again."
            )
        seen &= np.nan_to_num(trusted) >= confidence
    wrist, fingers = retarget_points(torch.from_numpy(points), side=side)
    return HandTrack(wrist=wrist.numpy(), fingers=fingers.numpy(), seen=seen)


def _transforms(file: h5py.File, joint: str, *, steps: int | None = None) -> ndarray:
    key = f"transforms/{joint}"
    if key not in file:
        raise DataError(f"{key} must be in the file, got {sorted(file.get('transforms', {}))}. It is not of EgoDex.")
    values = _array(file, key)
    if values.ndim != 3 or values.shape[1:] != (4, 4) or (steps is not None and len(values) != steps):
        raise DataError(
            f"{key} must have the shape ({'step' if steps is None else steps}, 4, 4), got {values.shape}. It is not of "
            "EgoDex."
        )
    return values


def _array(file: h5py.File, key: str) -> ndarray:
    try:
        return np.asarray(file[key], dtype=np.float64)
    except (OSError, TypeError, ValueError) as error:
        raise DataError(f"{key} must be readable numbers, got: {error}. Copy the file again.") from error


def _episode(file: h5py.File, path: Path) -> HandEpisode:
    try:
        length = len(_transforms(file, "camera"))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    better = "llm_description2" if str(file.attrs.get("which_llm_description", "1")) == "2" else "llm_description"
    text = file.attrs.get(better) or file.attrs.get("llm_description") or ""
    words = text.decode("utf-8", errors="replace") if isinstance(text, bytes) else str(text)
    video = path.with_suffix(".mp4")
    return HandEpisode(
        path=path,
        length=length,
        sentences=((words, 0, length),) if words else (),
        video=video if video.is_file() else None,
    )
