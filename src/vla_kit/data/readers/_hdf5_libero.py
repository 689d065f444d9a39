"""Data sets of LIBERO: one HDF5 file per task, in robomimic's layout."""

import re
from pathlib import Path

from vla_kit.data.readers._hdf5_attributes import control_rate, json_attribute, one_rate, sentence
from vla_kit.data.readers._hdf5_files import HDF5Files, list_hdf5_files, natural_order
from vla_kit.data.readers._hdf5_robomimic import demonstrations
from vla_kit.data.readers.hdf5_source import HDF5Episode, HDF5Source
from vla_kit.errors import DataError, MissingExtraError

try:
    import h5py
except ImportError as error:
    raise MissingExtraError("h5py", extra="hdf5") from error

__all__ = ["is_libero", "open_libero", "sentence_of_file_name"]


def open_libero(root: str | Path, *, name: str | None = None) -> HDF5Source:
    """Open a LIBERO data set: one file of a task, or a folder of them as one data set.

    The sentence is `language_instruction` in the attribute `problem_info` or, where a regenerated file has lost it,
    the name of the file. The simulator's state (`states`) differs in width between tasks and is no column of a folder
    with several.

    Two facts about these files:

    - Images are stored with their bottom row first, as OpenGL renders and as LIBERO's environments return them. They
      are given upright here. A policy trained on them needs the same of the simulator: `image[::-1]` over rows. Sets
      that were converted for OpenVLA are rotated by 180 degrees instead, which mirrors them; the two do not mix.
      Where the attribute `macros_image_convention` is `opencv`, images are upright already.
    - In the published files, row t of `obs` was recorded after `actions` row t had been carried out. It is the
      observation on which action t + 1 is to follow. Columns are given as stored.

    Args:
        root: File, or folder of such files.
        name: Name of the data set; the name of `root` where None.

    Raises:
        DataError: If a file is missing, broken or of another layout.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> with h5py.File(f"{folder.name}/KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5", "w") as file:
        ...     file["data/demo_0/actions"] = [[0.0] * 7]
        >>> open_libero(folder.name).instruction_at(0, 0)
        'turn on the stove'
        >>> folder.cleanup()

    Source:
        LIBERO, scripts/create_dataset.py and issue 11; openvla issue 295.
    """
    episodes, rates = [], {}
    files = HDF5Files()
    for path in list_hdf5_files(Path(root)):
        data = demonstrations(files.open(path), path)
        rates[path] = control_rate(data.attrs, path)
        told = json_attribute(data.attrs, "problem_info", f"{path}: data").get("language_instruction", "")
        told = "".join(told) if isinstance(told, list) else str(told)
        instruction = told.strip('" ') or sentence(data) or sentence_of_file_name(path.name)
        convention = data.attrs.get("macros_image_convention", "opengl")
        if convention not in ("opengl", "opencv"):
            raise DataError(
                f"{path}: data: macros_image_convention must be 'opengl' or 'opencv', got {convention!r}. "
                "Correct the file."
            )
        episodes += [
            HDF5Episode(path=path, group=f"data/{demo}", instruction=instruction, rows_upward=convention == "opengl")
            for demo in sorted(data, key=natural_order)
        ]
    files.close()
    return HDF5Source(episodes, root=root, name=name, rate_hz=one_rate(rates))


def is_libero(file: h5py.File, path: Path) -> bool:
    """Whether a file of robomimic's layout comes from LIBERO, by its attributes or, without any, its names.

    Examples:
        >>> with h5py.File.in_memory() as file:
        ...     file["data/demo_0/obs/agentview_rgb"] = [0]
        ...     is_libero(file, Path("open_the_drawer_demo.hdf5")), is_libero(file, Path("lift.hdf5"))
        (True, False)
    """
    data = file["data"]
    if "problem_info" in data.attrs or "bddl_file_name" in data.attrs:
        return True
    if not path.stem.endswith("_demo") or "env_args" in data.attrs:
        return False
    return any("obs/agentview_rgb" in demo for demo in data.values() if isinstance(demo, h5py.Group))


def sentence_of_file_name(name: str) -> str:
    """The sentence that LIBERO's file names spell.

    Examples:
        >>> sentence_of_file_name("LIVING_ROOM_SCENE2_put_the_soup_in_the_basket_demo.hdf5")
        'put the soup in the basket'
    """
    stem = Path(name).stem.removesuffix("_demo")
    return re.sub(r"^[A-Z_]*SCENE\d+_", "", stem).replace("_", " ").strip()
