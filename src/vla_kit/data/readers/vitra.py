"""Human hands as VITRA annotates them: MANO rotations of both hands and the camera, one file per episode."""

import zipfile
import zlib
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy import ndarray

from vla_kit.actions import from_matrix
from vla_kit.data.eigengrasp_file import load_eigengrasps
from vla_kit.data.readers._json_files import read_json
from vla_kit.data.readers.hand_source import HandEpisode, HandSource
from vla_kit.data.readers.hand_tracks import HandRecord, HandTrack
from vla_kit.errors import DataError

__all__ = ["is_vitra", "open_vitra", "read_vitra", "vitra_chain_error"]

_CHAIN: Final = 1e-3  # [m] or of a rotation's entry
_OF_A_HAND: Final[dict[str, tuple[int, ...]]] = {
    "global_orient_worldspace": (3, 3),
    "global_orient_camspace": (3, 3),
    "hand_pose": (15, 3, 3),
    "transl_worldspace": (3,),
    "kept_frames": (),
    "joints_worldspace": (21, 3),
    "joints_camspace": (21, 3),
}


def open_vitra(
    root: str | Path, *, name: str | None = None, basis: str | None = None, videos: str | None = None
) -> HandSource:
    """Open episodes in VITRA's layout: arrays in `<episode>.npz`, the rest in `<episode>.meta.json`.

    VITRA publishes pickled `.npy` files, and a pickle runs whatever code its author wrote: none is opened here. Where
    you trust yours, write each dictionary's arrays to an `.npz` (keys such as `right/hand_pose`) and what is no array
    to a `.meta.json`; the page on hands has the eight lines.

    Two traps of the format are taken care of. `transl_camspace` is not the wrist but MANO's translation, off by the
    place of MANO's root joint, some 10 cm; `joints_worldspace[:, 0]` and `transl_worldspace` are the wrist. And
    `hand_pose` of a left hand is already written as that of a right one.

    A sentence says whose it is ("Right hand: Pick up the spray bottle."), so that one instruction serves both hands; it
    holds from its first frame to the one before its last.

    Args:
        root: File or folder; files without `extrinsics` in it are passed over.
        name: Name of the data set; the name of `root` where None.
        basis: File of `save_eigengrasps`, for the weights of the fingers.
        videos: Folder of the videos, undistorted, `<video_name>.mp4`; there is no camera where None.

    Raises:
        DataError: If a file is broken or of another layout, or a video is missing.
        CheckpointError: If the basis cannot be read.

    Source:
        VITRA, arXiv 2510.21571; its `data/data.md` describes the keys.
    """
    path = Path(root)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*.npz") if is_vitra(file))
    pickles = [] if path.is_file() else sorted(path.rglob("*.npy"))
    if not files and pickles:
        raise DataError(
            f"root must hold .npz files, got pickles such as {pickles[0]}. Opening a pickle runs code; convert those "
            "that you trust, see the page on hands."
        )
    episodes = [_episode(file, None if videos is None else Path(videos)) for file in files]
    return HandSource(
        episodes,
        load=read_vitra,
        root=path,
        name=name,
        basis=None if basis is None else load_eigengrasps(basis),
    )


def is_vitra(path: Path) -> bool:
    """Whether a file is an episode of VITRA's layout.

    Examples:
        >>> is_vitra(Path("missing.npz"))
        False
    """
    if path.suffix != ".npz" or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {"extrinsics.npy", "right/hand_pose.npy", "left/hand_pose.npy"} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def read_vitra(path: Path) -> HandRecord:
    """Hands of one file.

    Args:
        path: An `.npz`.

    Raises:
        DataError: If the file is broken, or camera and world do not belong together.
    """
    arrays = _arrays(path)
    world_to_camera = arrays["extrinsics"]
    off = vitra_chain_error(path)
    if not off <= _CHAIN:
        raise DataError(
            f"extrinsics must take hands of the world to those of the camera to {_CHAIN}, got {off:.2g}. They may be "
            "camera to world, or of other frames."
        )
    tracks = {side: _track(arrays, side) for side in ("left", "right")}
    try:
        camera = np.linalg.inv(world_to_camera)
    except np.linalg.LinAlgError as error:
        raise DataError(
            f"extrinsics must be poses, got a matrix without inverse: {error}. Drop the episode."
        ) from error
    return HandRecord(**tracks, camera=camera)


def vitra_chain_error(path: Path) -> float:
    """How far the chain camera, world, wrist is from closing: the largest entry by which two ways differ.

    The wrist's rotation and the 21 joints of a hand stand in the file twice, in the world and in the camera; the
    extrinsics must take one to the other. And the wrist of the world must be its first joint.

    Args:
        path: An `.npz`.

    Returns:
        Largest difference in frames in which a hand was seen [m, or of an entry of a rotation]; 0 where none was.
    """
    arrays = _arrays(path)
    turn, shift = arrays["extrinsics"][:, :3, :3], arrays["extrinsics"][:, :3, 3]
    worst = 0.0
    for side in ("left", "right"):
        seen = arrays[f"{side}/kept_frames"].astype(bool)
        if not seen.any():
            continue
        joints = arrays[f"{side}/joints_worldspace"]
        differences = (
            turn @ arrays[f"{side}/global_orient_worldspace"] - arrays[f"{side}/global_orient_camspace"],
            joints @ turn.swapaxes(1, 2) + shift[:, None] - arrays[f"{side}/joints_camspace"],
            joints[:, 0] - arrays[f"{side}/transl_worldspace"],
        )
        for one in differences:
            apart = np.abs(one[seen])
            worst = max(worst, float(apart[np.isfinite(apart)].max(initial=0)))  # where it is NaN, the hand is lost
    return worst


def _track(arrays: dict[str, ndarray], side: str) -> HandTrack:
    turn = arrays[f"{side}/global_orient_worldspace"]
    wrist = np.tile(np.eye(4), (len(turn), 1, 1))
    wrist[:, :3, :3], wrist[:, :3, 3] = turn, arrays[f"{side}/transl_worldspace"]
    fingers = from_matrix(torch.from_numpy(arrays[f"{side}/hand_pose"].astype(np.float64)), "axis_angle")
    return HandTrack(wrist=wrist, fingers=fingers.flatten(1).numpy(), seen=arrays[f"{side}/kept_frames"].astype(bool))


def _arrays(path: Path) -> dict[str, ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: np.asarray(file[key]) for key in file.files}
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} must be a readable .npz without pickles, got: {error}. Copy or convert it again."
        ) from error
    shapes = {"extrinsics": (4, 4)} | {
        f"{side}/{key}": shape for side in ("left", "right") for key, shape in _OF_A_HAND.items()
    }
    missing = [key for key in shapes if key not in arrays]
    if missing:
        raise DataError(f"{path} must hold the arrays of VITRA's layout, got none for {missing}. Convert it again.")
    steps = arrays["extrinsics"].shape[:1]
    for key, shape in shapes.items():
        if arrays[key].shape != (*steps, *shape) or arrays[key].dtype.kind not in "fiub":
            raise DataError(
                f"{path}: {key} must be numbers of the shape {('step', *shape)}, as many steps as extrinsics "
                f"({len(arrays['extrinsics']) if steps else 0}), got {arrays[key].dtype} of {arrays[key].shape}. "
                "Convert it again."
            )
    return arrays


def _episode(path: Path, videos: Path | None) -> HandEpisode:
    arrays = _arrays(path)
    about = path.with_name(f"{path.stem}.meta.json")
    facts = read_json(about) if about.is_file() else {}
    try:
        sentences = [
            (f"{side.capitalize()} hand: {text.strip().rstrip('.')}.", int(first), int(last))
            for side in ("left", "right")
            for text, (first, last) in facts.get(f"text/{side}", [])
            if text
        ]
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(
            f"{about}: text/left and text/right must list sentences with their first and last frame, got: {error}. "
            "Convert it again."
        ) from error
    video = None
    if videos is not None:
        video = videos / f"{facts.get('video_name')}.mp4"
        if not video.is_file():
            raise DataError(
                f"videos must hold the video of {path.name}, got none at {video}. Fetch it, or leave videos out."
            )
    frames = np.ravel(arrays.get("video_decode_frame", []))
    return HandEpisode(
        path=path,
        length=len(arrays["extrinsics"]),
        sentences=tuple(sentences),
        video=video,
        first_frame=int(frames[0]) if len(frames) else 0,
    )
