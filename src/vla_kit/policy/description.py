"""Parts as data: the class path and the arguments that build a part again, in the form of the command line."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol, TypeGuard, get_args, get_origin, runtime_checkable

from vla_kit.errors import CheckpointError, SettingError, VLAKitError

__all__ = ["HasInitArgs", "SavesConfig", "build", "describe"]

_FOLDERS: Final = tuple(
    f"vla_kit.{name}." for name in ("actions", "backbones", "embodiment", "flow", "heads", "policy")
)
_FROM_CONFIG: Final = ".from_config"


@runtime_checkable
class HasInitArgs(Protocol):
    """A part that says itself which arguments build it again, where its attributes do not."""

    def init_args(self) -> dict[str, Any]:
        """Arguments of the constructor (or of `from_config`), weights aside."""
        ...


@runtime_checkable
class SavesConfig(Protocol):
    """A part that is built again from files: `from_config(source, **init_args)` reads what `save_config` wrote."""

    def save_config(self, folder: str | Path) -> None:
        """Write everything but the weights."""
        ...

    def init_args(self) -> dict[str, Any]:
        """Arguments of `from_config` beside `source`."""
        ...


def describe(part: Any, *, folder: Path, name: str) -> dict[str, Any]:  # noqa: ANN401 (any object)
    """Write down how a part is built again, weights aside.

    The arguments are the attributes of the same names; a part may give them by a method `init_args` instead. Parts
    inside are described in the same way, dataclasses by their fields.

    Args:
        part: Such as a head or a solver.
        folder: Where a part that `SavesConfig` puts its files, in a folder `name`.
        name: Place of the part, for files and errors.

    Returns:
        `class_path` and `init_args`, plain values throughout.

    Raises:
        SettingError: If an argument is neither an attribute nor given by `init_args`, or is no plain value.

    Examples:
        >>> from vla_kit.flow import Euler
        >>> describe(Euler(steps=4), folder=Path("."), name="solver")
        {'class_path': 'vla_kit.flow.solvers.Euler', 'init_args': {'steps': 4}}
    """
    path = _path(type(part))
    if isinstance(part, SavesConfig):
        part.save_config(folder / name)
        return {"class_path": f"{path}{_FROM_CONFIG}", "init_args": {"source": name, **part.init_args()}}
    arguments = part.init_args() if isinstance(part, HasInitArgs) else _attributes(part, name)
    return {
        "class_path": path,
        "init_args": {key: _plain(value, folder, f"{name}.{key}") for key, value in arguments.items()},
    }


def build(description: Any, *, folder: Path, allowed: Sequence[type] = ()) -> Any:  # noqa: ANN401 (YAML in, any part out)
    """Build what `describe` wrote down.

    Nothing is called but classes of this library that are parts of a policy, their `from_config`, and classes that the
    caller names; nothing else is imported, and a `source` lies within `folder`.

    Args:
        description: `class_path` and `init_args`.
        folder: Where files of parts lie.
        allowed: Classes of other libraries that may be built.

    Returns:
        The part, with fresh weights.

    Raises:
        CheckpointError: If the description is of another form, names a class that is not allowed or not there, or
            arguments that the class refuses.

    Examples:
        >>> build({"class_path": "vla_kit.flow.Euler", "init_args": {"steps": 4}}, folder=Path("."))
        Euler(steps=4)
    """
    if not _is_description(description):
        raise CheckpointError(
            f"part must be described by class_path and init_args, got {description!r}. Take the file that save wrote."
        )
    path, arguments = description["class_path"], dict(description.get("init_args") or {})
    target = _find(path, allowed)
    if path.endswith(_FROM_CONFIG):
        arguments["source"] = _inside(folder, arguments.get("source"))
    return _call(target, path, arguments, folder, allowed)


def _attributes(part: Any, name: str, *, given: int = 0) -> dict[str, Any]:  # noqa: ANN401 (any object)
    """Attributes named like the arguments of the constructor, without the first `given` of them."""
    arguments: dict[str, Any] = {}
    for key, parameter in list(inspect.signature(type(part)).parameters.items())[given:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or not hasattr(part, key):
            raise SettingError(
                f"{name} must keep the argument {key!r} of {_path(type(part))} as an attribute to be saved, got none. "
                "Add the attribute, or a method init_args that returns all arguments."
            )
        value, count = getattr(part, key), _factory_arity(parameter.annotation)
        if count and value is not None:  # the owner calls the factory with the first arguments
            path, rest = _path(type(value)), _attributes(value, f"{name}.{key}", given=count)
            value = {"class_path": path, "init_args": rest}
        arguments[key] = value
    return arguments


def _plain(value: Any, folder: Path, name: str) -> Any:  # noqa: ANN401 (any argument)
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, folder, f"{name}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, folder, f"{name}.{index}") for index, entry in enumerate(value)]
    if is_dataclass(value):
        return {
            field.name: _plain(getattr(value, field.name), folder, f"{name}.{field.name}") for field in fields(value)
        }
    try:
        return describe(value, folder=folder, name=name)
    except (TypeError, ValueError) as error:
        if isinstance(error, VLAKitError):
            raise
        raise SettingError(
            f"{name} must be a plain value or an object of a class to be saved, got {type(value).__name__}. "
            "Write a small class in its place."
        ) from error


def _value(value: Any, kind: Any, folder: Path, allowed: Sequence[type]) -> Any:  # noqa: ANN401 (YAML and annotations)
    """An argument as its annotation wants it."""
    for choice in get_args(kind) if type(None) in get_args(kind) else (kind,):
        elements = get_args(choice)
        if (
            isinstance(choice, type)
            and is_dataclass(choice)
            and isinstance(value, Mapping)
            and not _is_description(value)
        ):
            return _call(choice, _path(choice), value, folder, allowed)
        if isinstance(value, list) and elements and get_origin(choice) in (Sequence, list, tuple):
            return [_value(entry, elements[0], folder, allowed) for entry in value]
        if _factory_arity(choice) and _is_description(value):
            arguments = value.get("init_args") or {}
            return partial(_find(value["class_path"], allowed), **arguments)
    return build(value, folder=folder, allowed=allowed) if _is_description(value) else value


def _is_description(value: Any) -> TypeGuard[Mapping[str, Any]]:  # noqa: ANN401 (any YAML)
    return (
        isinstance(value, Mapping)
        and {"class_path"} <= set(value) <= {"class_path", "init_args"}
        and isinstance(value["class_path"], str)
        and isinstance(value.get("init_args") or {}, Mapping)
    )


def _factory_arity(kind: Any) -> int:  # noqa: ANN401 (an annotation)
    """Arguments with which the owner calls a factory `Callable[[int, int], Part]`; 0 for everything else."""
    for choice in (kind, *get_args(kind)):
        if get_origin(choice) is Callable and isinstance(get_args(choice)[0], list):
            return len(get_args(choice)[0])
    return 0


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _find(path: str, allowed: Sequence[type]) -> Callable[..., Any]:
    name = path.removesuffix(_FROM_CONFIG)
    kind: Any = next((one for one in allowed if _path(one) == name), None)
    if kind is None and name.startswith(_FOLDERS):
        kind = _import(name)
    ours = isinstance(kind, type) and (kind in allowed or kind.__module__.startswith(_FOLDERS))
    found = getattr(kind, "from_config", None) if name != path else kind
    if not ours or found is None:
        raise CheckpointError(
            f"class_path must name a part of vla_kit or a class in allowed {[_path(one) for one in allowed]}, got "
            f"{path!r}. Where you trust its code, import the class and pass it: Policy.load(..., allowed=[TheClass])."
        )
    built: Callable[..., Any] = found
    return built


def _import(name: str) -> Any:  # noqa: ANN401 (whatever stands there)
    module, _, leaf = name.rpartition(".")
    try:
        return getattr(import_module(module), leaf, None)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("vla_kit"):
            raise
        return None


def _inside(folder: Path, source: Any) -> Path:  # noqa: ANN401 (YAML)
    root = folder.resolve()
    path = (root / str(source)).resolve()
    if not path.is_relative_to(root) or not path.is_dir():
        raise CheckpointError(
            f"source must be a folder within {folder}, got {source!r}. Copy the whole folder that Policy.save wrote."
        )
    return path


def _call(
    target: Callable[..., Any], path: str, arguments: Mapping[str, Any], folder: Path, allowed: Sequence[type]
) -> Any:  # noqa: ANN401 (any part)
    kinds = {name: parameter.annotation for name, parameter in inspect.signature(target).parameters.items()}
    built = {name: _value(value, kinds.get(name), folder, allowed) for name, value in arguments.items()}
    try:
        return target(**built)
    except VLAKitError:
        raise
    except Exception as error:  # whatever a constructor gives for arguments that are not its own
        raise CheckpointError(
            f"init_args must be those of {path}, got {type(error).__name__}: {error}. "
            "Load the folder with the version of vla-kit that wrote it."
        ) from error
