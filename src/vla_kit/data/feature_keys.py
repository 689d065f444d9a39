"""Names of a LeRobot data set for the columns and cameras of any format."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from vla_kit.data._suggestion import suggestion
from vla_kit.data.lerobot_layout import INDEX_FEATURES
from vla_kit.errors import SettingError

__all__ = ["FeatureKeys", "lerobot_keys"]

_IMAGES: Final = "observation.images."
_ANNOTATION: Final = "annotation."
_OBSERVED: Final = re.compile(r"^(obs|observations?)(\.|$)")


@dataclass(frozen=True, kw_only=True)
class FeatureKeys:
    """What becomes which feature of a LeRobot data set.

    Args:
        columns: Feature -> columns of the source, side by side where there are several.
        cameras: Feature -> camera of the source.
        left_out: Columns and cameras of the source that become nothing.
    """

    columns: Mapping[str, tuple[str, ...]]
    cameras: Mapping[str, str]
    left_out: tuple[str, ...]


def lerobot_keys(
    columns: Iterable[str], cameras: Iterable[str], overrides: Mapping[str, str] | None = None
) -> FeatureKeys:
    """Find the LeRobot names of columns and cameras, whose own names may be paths such as `obs/ee_pos`.

    The rule, in this order:

    1. What `overrides` names is called as it says, and left out where it says the empty string.
    2. A leading `steps/` goes, slashes become dots, and `obs` or `observations` in front becomes `observation`.
    3. `actions` becomes `action`.
    4. A camera is called `observation.images.` and what its name holds beyond `observation` and `images`.
    5. Frame counters and timestamps, which the writer makes itself, are left out; so are columns below `annotation`,
       which by GR00T's habit number the sentences of their own data set, and would mean others in the new one.

    Columns that `overrides` calls alike are put side by side, in the order of `overrides`: an action in pieces becomes
    one.

    Args:
        columns: Keys of the columns.
        cameras: Keys of the cameras.
        overrides: Key -> name, for those that the rule would name otherwise.

    Raises:
        SettingError: If `overrides` names an unknown key, gives a name that LeRobot cannot hold, or two keys would be
            called alike otherwise; or if nothing is called `action`.

    Examples:
        >>> keys = lerobot_keys(["actions", "obs/ee_pos", "dones"], ["obs/agentview_image"], {"dones": ""})
        >>> keys.columns
        {'action': ('actions',), 'observation.ee_pos': ('obs/ee_pos',)}
        >>> keys.cameras, keys.left_out
        ({'observation.images.agentview_image': 'obs/agentview_image'}, ('dones',))
    """
    columns, cameras, overrides = list(columns), list(cameras), dict(overrides or {})
    for key, name in overrides.items():
        if key not in columns and key not in cameras:
            raise SettingError(
                f"keys must name columns or cameras of the data set, got {key!r}. {suggestion(key, columns + cameras)}"
            )
        if "/" in name or _is_counter(name):
            raise SettingError(
                f"keys[{key!r}] must be a name without '/' that is no counter's or annotation's, got {name!r}. "
                "Choose another one, with dots."
            )
    named: dict[str, tuple[str, ...]] = {}
    pictured: dict[str, str] = {}
    left_out: list[str] = []
    chosen = [key for key in overrides if key in columns]
    for key in [*(key for key in columns if key not in chosen), *chosen]:
        name = overrides.get(key, _column_name(key))
        if not name or _is_counter(name):
            left_out.append(key)
        elif name in named and not (key in overrides and all(other in overrides for other in named[name])):
            raise SettingError(_collision(key, named[name][0], name))
        else:
            named[name] = (*named.get(name, ()), key)
    for key in cameras:
        name = overrides.get(key, _camera_name(key))
        if not name:
            left_out.append(key)
        elif name in named or name in pictured:
            other = pictured[name] if name in pictured else named[name][0]
            raise SettingError(_collision(key, other, name))
        else:
            pictured[name] = key
    if "action" not in named:
        raise SettingError(
            f"keys must call a column 'action', got none for {columns}. Name the column of the actions, or several to "
            'put them side by side: {"arm": "action", "gripper": "action"}.'
        )
    order = {key: place for place, key in enumerate(columns)}
    named = dict(sorted(named.items(), key=lambda entry: min(order[key] for key in entry[1])))
    return FeatureKeys(columns=named, cameras=pictured, left_out=tuple(left_out))


def _collision(key: str, other: str, name: str) -> str:
    return f"keys must give every key a name of its own, got {name!r} for both {other!r} and {key!r}. Rename one."


def _is_counter(name: str) -> bool:
    return name in INDEX_FEATURES or name.startswith(_ANNOTATION)


def _dotted(key: str) -> str:
    plain = key.strip("/").removeprefix("steps/").replace("/", ".")
    return _OBSERVED.sub(r"observation\2", plain)


def _column_name(key: str) -> str:
    name = _dotted(key)
    return "action" if name == "actions" else name


def _camera_name(key: str) -> str:
    name = _dotted(key)
    return name if name.startswith(_IMAGES) else _IMAGES + name.removeprefix("observation.").removeprefix("images.")
