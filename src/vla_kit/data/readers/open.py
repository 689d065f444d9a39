"""Open a recorded data set without naming its format: look at what lies there."""

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Final, cast

from vla_kit.data._suggestion import suggestion
from vla_kit.data.source import EpisodeSource
from vla_kit.errors import DataError, SettingError

__all__ = ["open_source"]


def _is_lerobot(path: Path) -> bool:
    return (path / "meta/info.json").is_file()


def _is_hdf5(path: Path) -> bool:
    if path.is_file():
        return path.suffix in (".hdf5", ".h5")
    return any(next(path.rglob(f"*{suffix}"), None) is not None for suffix in (".hdf5", ".h5"))


def _is_rlds(path: Path) -> bool:
    return (path / "features.json").is_file() and next(path.glob("*.tfrecord*"), None) is not None


def _is_vln_ce(path: Path) -> bool:
    return path.is_file() and path.name.endswith((".json", ".json.gz"))


def _is_vitra(path: Path) -> bool:
    from vla_kit.data.readers.vitra import is_vitra

    files = [path] if path.is_file() else path.rglob("*.npz")
    return any(is_vitra(file) for file in files)


def _is_egodex(path: Path) -> bool:
    if not _is_hdf5(path):
        return False
    from vla_kit.data.readers._hdf5_files import list_hdf5_files
    from vla_kit.data.readers.egodex import is_egodex

    return is_egodex(list_hdf5_files(path)[0])


def _is_hot3d(path: Path) -> bool:
    from vla_kit.data.readers.hot3d import is_hot3d

    return is_hot3d(path)


_FORMATS: Final[dict[str, tuple[Callable[[Path], bool], str, str]]] = {
    "LeRobot folder (meta/info.json)": (_is_lerobot, "vla_kit.data.readers.lerobot", "open_lerobot"),
    "RLDS folder (features.json beside *.tfrecord* files)": (_is_rlds, "vla_kit.data.readers.rlds", "RLDSSource"),
    "VITRA episode or folder (*.npz)": (_is_vitra, "vla_kit.data.readers.vitra", "open_vitra"),
    "HOT3D folder (mano_hand_pose_trajectory.jsonl)": (_is_hot3d, "vla_kit.data.readers.hot3d", "open_hot3d"),
    "EgoDex file or folder (*.hdf5)": (_is_egodex, "vla_kit.data.readers.egodex", "open_egodex"),
    "HDF5 file or folder (*.hdf5, *.h5)": (_is_hdf5, "vla_kit.data.readers.hdf5", "open_hdf5"),
    "VLN-CE file (*.json, *.json.gz)": (_is_vln_ce, "vla_kit.data.readers.vln_ce_source", "open_vln_ce"),
}

_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")


def open_source(
    root: str | Path, *, name: str | None = None, options: Mapping[str, str | float] | None = None
) -> EpisodeSource:
    """Open a data set of any format that vla-kit reads.

    A format is recognised by its files: LeRobot by `meta/info.json`, RLDS by `features.json` beside TFRecords, HDF5 and
    VLN-CE by the suffix of a file, and human hands by what the files hold (VITRA's arrays, HOT3D's lines, EgoDex's
    joints). What is no path, but two words with a slash between them, is taken for a LeRobot data set of the hub.

    Args:
        root: Folder, file or hub id such as `lerobot/pusht`.
        name: Name of the data set; that of the folder or file where None.
        options: Further arguments of the format's own opener, such as `language` or `revision` of `open_lerobot`,
            `split` of `RLDSSource`, `channels` of `open_hdf5`, `language` of `open_vln_ce`.

    Returns:
        The data set as it was recorded.

    Raises:
        DataError: If there is nothing, or nothing that any format knows; or what the format's own reader raises.
        SettingError: If an option is none of the format.
        MissingExtraError: If the format needs a library that is not installed.

    Examples:
        >>> open_source("data/nothing/here")
        Traceback (most recent call last):
        ...
        vla_kit.errors.DataError: root must be a folder, a file or a hub id, got data/nothing/here, which does not
        exist. Check the path.
    """
    path = Path(root)
    if not path.exists():
        if _HUB_ID.fullmatch(str(root)) and not path.parent.is_dir():
            return _open("vla_kit.data.readers.lerobot", "open_lerobot", root, name=name, options=options or {})
        raise DataError(
            f"root must be a folder, a file or a hub id, got {root}, which does not exist. {_neighbour(path)}"
        )
    for matches, module, opener in _FORMATS.values():
        if matches(path):
            return _open(module, opener, root, name=name, options=options or {})
    found = sorted(entry.name for entry in path.iterdir())[:8] if path.is_dir() else [path.name]
    raise DataError(
        f"root must hold a {', a '.join(_FORMATS)}, got {root} with {found}. Give the folder that holds those files."
    )


def _open(
    module: str, opener: str, root: str | Path, *, name: str | None, options: Mapping[str, str | float]
) -> EpisodeSource:
    function = cast(Callable[..., EpisodeSource], getattr(import_module(module), opener))
    known = [key for key in inspect.signature(function).parameters if key not in ("root", "name")]
    for key in options:
        if key not in known:
            raise SettingError(f"options of {root} must be those of {opener}, got {key!r}. {suggestion(key, known)}")
    return function(root, name=name, **options)


def _neighbour(path: Path) -> str:
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    return f"Did you mean {path.parent / near[0]}?" if near else "Check the path."
