"""A configuration as a mapping, before the command line parses it."""

from pathlib import Path
from typing import Any

import yaml

from vla_kit.errors import SettingError

__all__ = ["read_config"]


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a file of YAML.

    Args:
        path: The file.

    Returns:
        Its sections; none for an empty file.

    Raises:
        SettingError: If it is missing, or holds something else than a mapping.
    """
    try:
        content: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"config must be a file, got {path} ({error.strerror}). Check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"config must be YAML, got {path}: {error}. Mend the line that it names.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingError(f"config must map names to settings, got {path} with {content!r:.60}. Write name: value.")
    return content
