"""Open a data set in HDF5 files, whichever of the known layouts it has."""

from pathlib import Path
from typing import Literal

from vla_kit.data.readers._hdf5_files import HDF5Files, list_hdf5_files
from vla_kit.data.readers._hdf5_libero import is_libero, open_libero
from vla_kit.data.readers._hdf5_robomimic import open_robomimic
from vla_kit.data.readers.hdf5_aloha import is_aloha, open_aloha
from vla_kit.data.readers.hdf5_source import HDF5Source
from vla_kit.errors import DataError, MissingExtraError, SettingError

try:
    import h5py
except ImportError as error:
    raise MissingExtraError("h5py", extra="hdf5") from error

__all__ = ["open_hdf5"]


def open_hdf5(
    root: str | Path, *, name: str | None = None, channels: Literal["rgb", "bgr"] | None = None
) -> HDF5Source:
    """Open a data set in HDF5 files; the layout is found by looking at the first of them.

    - robomimic (also MimicGen, RoboCasa): a group `data` of demonstrations, see `open_robomimic`.
    - LIBERO: the same with `problem_info`, or files that end in `_demo.hdf5`, see `open_libero`.
    - ALOHA (also ACT, Mobile ALOHA): a file per episode with `action` and `observations`, see `open_aloha`.

    Args:
        root: File, or folder of files.
        name: Name of the data set; the name of `root` without its suffix where None.
        channels: Order of the colours in ALOHA's files, see `open_aloha`; `rgb` where None.

    Raises:
        SettingError: If `channels` is unknown, or given for another layout.
        DataError: If a file is missing or broken, or the layout is none of these.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> with h5py.File(f"{folder.name}/lift.hdf5", "w") as file:
        ...     file["data/demo_0/actions"] = [[0.0, 1.0]]
        >>> list(open_hdf5(folder.name).columns)
        ['actions']
        >>> folder.cleanup()
    """
    path = list_hdf5_files(Path(root))[0]
    files = HDF5Files()
    file = files.open(path)
    aloha, grouped = is_aloha(file), isinstance(file.get("data"), h5py.Group)
    libero = grouped and is_libero(file, path)
    found = sorted(file)
    files.close()
    if aloha:
        return open_aloha(root, name=name, channels="rgb" if channels is None else channels)
    if channels is not None:
        raise SettingError(f"channels must be left out, got {channels!r} for {root}. It is for ALOHA's layout alone.")
    if not grouped:
        raise DataError(
            f"{path} must hold a group 'data' (robomimic, LIBERO), or 'action' and a group 'observations' (ALOHA), "
            f"got {found}. List the groups of another layout yourself with HDF5Source."
        )
    return open_libero(root, name=name) if libero else open_robomimic(root, name=name)
