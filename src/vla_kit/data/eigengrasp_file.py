"""An eigengrasp basis in a file of its own, for readers of data sets, for YAML and for policies."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vla_kit.actions import EigengraspBasis
from vla_kit.data.whole_file import written_beside
from vla_kit.errors import CheckpointError, DataError

__all__ = ["load_eigengrasps", "save_eigengrasps"]


def save_eigengrasps(basis: EigengraspBasis, path: str | Path) -> None:
    """Write mean and directions as safetensors.

    Args:
        basis: From `fit_eigengrasps`, or of MANO's arrays.
        path: A `.safetensors` file; folders are made.

    Raises:
        DataError: If the file cannot be written. What stood there stays.
    """
    tensors = {"mean": basis.mean.cpu(), "directions": basis.directions.cpu().contiguous()}
    try:
        with written_beside(Path(path)) as partial:
            save_file(tensors, str(partial))
    except (OSError, SafetensorError) as error:
        raise DataError(f"path must be a file that can be written, got {path}: {error}. Choose another.") from error


def load_eigengrasps(path: str | Path) -> EigengraspBasis:
    """Read what `save_eigengrasps` wrote.

    As it returns an `EigengraspBasis`, YAML may use it as `class_path: vla_kit.data.eigengrasp_file.load_eigengrasps`.

    Args:
        path: A `.safetensors` file.

    Raises:
        CheckpointError: If the file is missing, broken or another one.
        DataError: If its directions are not orthonormal.

    Examples:
        >>> load_eigengrasps("missing.safetensors")
        Traceback (most recent call last):
        ...
        vla_kit.errors.CheckpointError: path must be a file of save_eigengrasps, got missing.safetensors: ...
    """
    try:
        tensors = load_file(str(path))
        mean, directions = tensors["mean"], tensors["directions"]
    except (OSError, SafetensorError, KeyError) as error:
        raise CheckpointError(
            f"path must be a file of save_eigengrasps, got {path}: {error}. Fit a basis with fit_eigengrasps."
        ) from error
    return EigengraspBasis(mean, directions)
