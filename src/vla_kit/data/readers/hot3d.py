"""Human hands as HOT3D records them: PCA numbers of MANO and the wrist as a quaternion, one line per instant."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from vla_kit.actions import EigengraspBasis, HandSide, RotationForm, rotation_defect, to_matrix
from vla_kit.data.eigengrasp_file import load_eigengrasps
from vla_kit.data.readers.hand_source import HandEpisode, HandSource
from vla_kit.data.readers.hand_tracks import HandRecord, HandTrack
from vla_kit.errors import DataError, SettingError

__all__ = ["is_hot3d", "open_hot3d", "read_hot3d"]

_POSES: Final = "mano_hand_pose_trajectory.jsonl"
_HEADSET: Final = "headset_trajectory.csv"
_HEADSET_KEYS: Final = (*(f"q_wo_{axis}" for axis in "wxyz"), *(f"t_wo_{axis}[m]" for axis in "xyz"))
_SIDES: Final[dict[str, HandSide]] = {"0": "left", "1": "right"}
_NORM: Final = 1e-2


def open_hot3d(
    root: str | Path,
    *,
    mano: str | None = None,
    mano_left: str | None = None,
    name: str | None = None,
    basis: str | None = None,
) -> HandSource:
    """Open sequences of HOT3D, a folder each with `mano_hand_pose_trajectory.jsonl`.

    The fingers are 15 weights of MANO's own PCA, which are numbers without meaning but with MANO's components: write
    yours with `save_eigengrasps(EigengraspBasis.from_mano(..., count=15), path)`. What MANO counts as the translation
    is off the wrist by the place of its root joint, which nothing turns: displacements of the wrist
    (`hand_columns("wrist")`) are exact, and places in the camera's frame are off by those 10 cm. `camera` is the
    headset, whose frame is not that of one of its cameras, and it is there where every
    sequence has `headset_trajectory.csv`. Pictures lie in VRS
    recordings and are not read. HOT3D has no language: set `name` and give instructions elsewhere, or train without.

    Args:
        root: Folder of one sequence, or of several.
        mano: File of `save_eigengrasps` that holds the PCA of MANO's right hand; it has to be given.
        mano_left: The same of the left hand (`side="left"`); `mano` where None.
        name: Name of the data set; the name of `root` where None.
        basis: File of `save_eigengrasps`, for the weights of the fingers.

    Raises:
        SettingError: If `mano` is missing.
        DataError: If a file is missing or broken.
        CheckpointError: If a basis cannot be read.

    Source:
        HOT3D, arXiv 2411.19167, and its loaders: left hand "0", right hand "1", quaternions with the scalar first.
    """
    if mano is None:
        raise SettingError(
            "mano must be given, for fingers are weights of MANO's own PCA, got None. Save yours with "
            "EigengraspBasis.from_mano(..., count=15), and name the file: options {mano: mano.safetensors}."
        )
    path = Path(root)
    files = sorted(path.rglob(_POSES))
    if not files:
        raise DataError(f"root must hold {_POSES}, got none in {root}. Give the folder of a sequence.")
    cameras = all((file.parent / _HEADSET).is_file() for file in files)
    times = {file: [line["timestamp_ns"] for line in _lines(file)] for file in files}
    right = load_eigengrasps(mano)
    return HandSource(
        [HandEpisode(path=file, length=len(stamps)) for file, stamps in times.items()],
        load=partial(
            read_hot3d,
            mano={"right": right, "left": right if mano_left is None else load_eigengrasps(mano_left)},
            with_camera=cameras,
        ),
        root=path,
        name=name,
        rate_hz=_rate([stamps for stamps in times.values() if len(stamps) > 1]),
        basis=None if basis is None else load_eigengrasps(basis),
        has_camera=cameras,
    )


def is_hot3d(path: Path) -> bool:
    """Whether a folder holds sequences of HOT3D's layout.

    Examples:
        >>> is_hot3d(Path("missing"))
        False
    """
    return path.is_dir() and next(path.rglob(_POSES), None) is not None


def read_hot3d(path: Path, *, mano: dict[HandSide, EigengraspBasis], with_camera: bool = True) -> HandRecord:
    """Hands of one sequence. An instant without a hand is one in which it is lost.

    Args:
        path: The `.jsonl`.
        mano: PCA of MANO of both hands.
        with_camera: Whether to read the headset's trajectory beside it.

    Raises:
        DataError: If a line is broken, a quaternion has another norm than 1, or an instant lacks the headset.
        SettingError: If `mano` lacks a hand.
    """
    lacking = sorted(set(_SIDES.values()) - set(mano))
    if lacking:
        raise SettingError(f"mano must hold the PCA of both hands, got none for {lacking}. Give the right one's twice.")
    lines = _lines(path)
    tracks = {side: _track(lines, key, mano[side]) for key, side in _SIDES.items()}
    camera = _headset(path.parent / _HEADSET, [line["timestamp_ns"] for line in lines]) if with_camera else None
    return HandRecord(left=tracks["left"], right=tracks["right"], camera=camera)


def _track(lines: list[dict[str, Any]], key: str, mano: EigengraspBasis) -> HandTrack:
    steps = len(lines)
    wrist, weights = np.tile(np.eye(4), (steps, 1, 1)), np.zeros((steps, mano.count))
    seen = np.zeros(steps, dtype=bool)
    for index, line in enumerate(lines):
        hand = line["hand_poses"].get(key)
        if hand is None:
            continue
        if not isinstance(hand, dict) or not {"joint_angles", "wrist_xform"} <= hand.keys():
            raise DataError(
                f"hand_poses must hold joint_angles and wrist_xform, got {hand!r:.80} in line {index + 1}. Fetch the "
                "sequence again."
            )
        numbers = _numbers(hand["joint_angles"], "joint_angles", line=index + 1)
        if numbers.shape != (mano.count,):
            raise DataError(
                f"joint_angles must have as many numbers as mano has directions ({mano.count}), got {numbers.size} in "
                f"line {index + 1}. Save MANO's PCA with that count."
            )
        wrist[index], weights[index], seen[index] = _pose(hand["wrist_xform"], line=index + 1), numbers, True
    return HandTrack(wrist=wrist, fingers=mano.decode(torch.from_numpy(weights)).numpy(), seen=seen)


def _numbers(values: Any, key: str, *, line: int, count: int | None = None) -> ndarray:  # noqa: ANN401 (JSON)
    try:
        numbers = np.array(values, dtype=np.float64).reshape(-1 if count is None else count)
    except (TypeError, ValueError) as error:
        what = "numbers" if count is None else f"{count} numbers"
        raise DataError(
            f"{key} must hold {what}, got {values!r:.80} in line {line}. Fetch the sequence again."
        ) from error
    return numbers


def _pose(transform: dict[str, Any], *, line: int) -> Float[ndarray, "4 4"]:
    """SE(3) of a quaternion and a place. The order of the quaternion is that of its key, for no norm shows it."""
    forms: dict[str, RotationForm] = {"q_wxyz": "quaternion_wxyz", "q_xyzw": "quaternion_xyzw"}
    key = next((key for key in forms if key in transform), None) if isinstance(transform, dict) else None
    if key is None or "t_xyz" not in transform:
        raise DataError(
            f"wrist_xform must hold q_wxyz or q_xyzw, and t_xyz, got {transform!r:.80} in line {line}. Fetch the "
            "sequence again."
        )
    numbers = torch.from_numpy(_numbers(transform[key], key, line=line, count=4))
    pose = np.eye(4)
    pose[:3, 3] = _numbers(transform["t_xyz"], "t_xyz", line=line, count=3)
    if not bool(numbers.isfinite().all()):
        pose[:3, :3] = np.nan  # HandTrack takes the hand for lost
        return pose
    if float(rotation_defect(numbers, forms[key])) > _NORM:
        raise DataError(
            f"{key} must have norm 1, got {numbers.norm():.3g} in line {line}. The numbers are no quaternion."
        )
    pose[:3, :3] = to_matrix(numbers, forms[key]).numpy()
    return pose


def _headset(path: Path, stamps: list[int]) -> Float[ndarray, "step 4 4"]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = {int(row["timestamp[ns]"]): [row[key] for key in _HEADSET_KEYS] for row in csv.DictReader(file)}
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} must be a readable table with timestamp[ns] and {_HEADSET_KEYS}, got {type(error).__name__}: "
            f"{error}. Fetch it again."
        ) from error
    missing = [stamp for stamp in stamps if stamp not in rows]
    if missing:
        raise DataError(f"{path} must hold every instant of the hands, got none for {missing[:3]}. Fetch it again.")
    poses = np.empty((len(stamps), 4, 4))
    for index, stamp in enumerate(stamps):
        try:
            poses[index] = _pose({"q_wxyz": rows[stamp][:4], "t_xyz": rows[stamp][4:]}, line=index + 2)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    return poses


def _lines(path: Path) -> list[dict[str, Any]]:
    """Instants in the order of time."""
    found = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} must be a readable text file, got: {error}. Fetch it again.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            record = json.loads(line)
            found.append({"timestamp_ns": int(record["timestamp_ns"]), "hand_poses": dict(record["hand_poses"])})
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} must hold a JSON record per line, got {line[:60]!r} in line {number}. Fetch it again."
            ) from error
    return sorted(found, key=lambda record: record["timestamp_ns"])


def _rate(times: list[list[int]]) -> float | None:
    """Frames per second of all sequences, from the median step."""
    if not times:
        return None
    return round(1e9 / float(np.median(np.concatenate([np.diff(stamps) for stamps in times]))), 2)
