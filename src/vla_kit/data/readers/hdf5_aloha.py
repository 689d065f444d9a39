"""Data sets of ALOHA, ACT and Mobile ALOHA: one HDF5 file per episode."""

from pathlib import Path
from typing import Literal

from vla_kit.data.readers._hdf5_attributes import sentence
from vla_kit.data.readers._hdf5_files import HDF5Files, list_hdf5_files
from vla_kit.data.readers.hdf5_source import HDF5Episode, HDF5Source
from vla_kit.errors import MissingExtraError

try:
    import h5py
except ImportError as error:
    raise MissingExtraError("h5py", extra="hdf5") from error

__all__ = ["is_aloha", "open_aloha"]


def open_aloha(root: str | Path, *, name: str | None = None, channels: Literal["rgb", "bgr"] = "rgb") -> HDF5Source:
    """Open a folder of episodes as ALOHA's recorder writes them: `action` and `observations/...` in a file each.

    The files hold neither the rate (ALOHA's own is 50 Hz) nor, as a rule, a sentence; one is read from an attribute or
    a data set such as `language_raw` or `instruction`, as the descendants of ALOHA write them.

    Images are raw, or JPEG padded with zeros (`compress`). ALOHA hands RGB arrays to OpenCV, which takes them for
    BGR: decoded by anything but OpenCV, red would be blue. This is put right with `channels="rgb"`. A recorder that
    asked its cameras for BGR writes the opposite, raw images included; open those with `channels="bgr"`. The files do
    not say which it was, so look at one frame.

    Args:
        root: Folder, or file of a single episode.
        name: Name of the data set; the name of `root` where None.
        channels: Order of the colours in the arrays that the recorder held.

    Raises:
        DataError: If a file is missing, broken or of another layout.
        SettingError: If `channels` is unknown.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> for index in (10, 9):
        ...     with h5py.File(f"{folder.name}/episode_{index}.hdf5", "w") as file:
        ...         file["action"] = [[float(index)] * 14]
        ...         file["observations/qpos"] = [[0.0] * 14]
        >>> source = open_aloha(folder.name)
        >>> [source.column(index, "action")[0, 0].item() for index in (0, 1)]
        [9.0, 10.0]
        >>> folder.cleanup()

    Source:
        ACT and Mobile ALOHA, record_episodes.py and compress_data.py.
    """
    files = HDF5Files()
    episodes = [
        HDF5Episode(path=path, group="/", instruction=sentence(files.open(path)))
        for path in list_hdf5_files(Path(root))
    ]
    files.close()
    return HDF5Source(episodes, root=root, name=name, channels=channels)


def is_aloha(file: h5py.File) -> bool:
    """Whether a file is one episode in ALOHA's layout.

    Examples:
        >>> with h5py.File.in_memory() as file:
        ...     file["data/demo_0/actions"] = [0.0]
        ...     is_aloha(file)
        False
    """
    return "action" in file and isinstance(file.get("observations"), h5py.Group)
