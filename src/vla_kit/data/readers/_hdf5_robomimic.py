"""Data sets of robomimic and whoever writes its layout: one HDF5 file, one group per demonstration."""

from pathlib import Path

from vla_kit.data.readers._hdf5_attributes import control_rate, json_attribute, one_rate, sentence
from vla_kit.data.readers._hdf5_files import HDF5Files, list_hdf5_files, natural_order
from vla_kit.data.readers.hdf5_source import HDF5Episode, HDF5Source
from vla_kit.errors import DataError, MissingExtraError

try:
    import h5py
except ImportError as error:
    raise MissingExtraError("h5py", extra="hdf5") from error

__all__ = ["demonstrations", "open_robomimic"]


def open_robomimic(root: str | Path, *, name: str | None = None) -> HDF5Source:
    """Open a data set of the robomimic layout, which MimicGen and RoboCasa share.

    Every group of `data` is an episode, in the order of its number. The rate is the `control_freq` of the attribute
    `env_args`. The sentence is `lang` in the attribute `ep_meta` of a demonstration (RoboCasa), or a plain attribute
    such as `language_instruction`; most robomimic sets have none. The lists of names in `mask` are not read.

    Args:
        root: File, or folder of such files.
        name: Name of the data set; the name of `root` where None.

    Raises:
        DataError: If a file is missing, broken or of another layout.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> with h5py.File(f"{folder.name}/lift.hdf5", "w") as file:
        ...     file["data/demo_0/actions"] = [[0.0, 1.0], [0.5, 1.0]]
        ...     file["data"].attrs["env_args"] = '{"env_kwargs": {"control_freq": 20}}'
        >>> source = open_robomimic(f"{folder.name}/lift.hdf5")
        >>> source.name, source.rate_hz, source.lengths.tolist()
        ('lift', 20.0, [2])
        >>> folder.cleanup()

    Source:
        robomimic's documentation of its data sets; RoboCasa for `ep_meta`.
    """
    episodes, rates = [], {}
    files = HDF5Files()
    for path in list_hdf5_files(Path(root)):
        data = demonstrations(files.open(path), path)
        rates[path] = control_rate(data.attrs, path)
        shared = sentence(data)
        for demo in sorted(data, key=natural_order):
            where = f"data/{demo}"
            own = json_attribute(data[demo].attrs, "ep_meta", f"{path}: {where}").get("lang") or sentence(data[demo])
            episodes.append(HDF5Episode(path=path, group=where, instruction=str(own or shared).strip()))
    files.close()
    return HDF5Source(episodes, root=root, name=name, rate_hz=one_rate(rates))


def demonstrations(file: h5py.File, path: Path) -> h5py.Group:
    """The group `data`, whose groups are the demonstrations.

    Raises:
        DataError: If there is none or it is empty.
    """
    data = file.get("data")
    if not isinstance(data, h5py.Group) or not all(isinstance(demo, h5py.Group) for demo in data.values()):
        raise DataError(
            f"{path} must hold a group 'data' of demonstrations, got {sorted(file)}. "
            "The file is of another layout; see open_hdf5."
        )
    if len(data) == 0:
        raise DataError(f"{path} must hold demonstrations in 'data', got none. Record it again or move it away.")
    return data
