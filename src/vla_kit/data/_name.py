"""The check that a name is one."""

from vla_kit.errors import SettingError

__all__ = ["check_name"]


def check_name(argument: str, name: str | None) -> None:
    """Refuse a name without a letter, which stands for something left out and would be taken for a name.

    Args:
        argument: What the caller calls it.
        name: The name; None where it may be left out, which passes.

    Raises:
        SettingError: If it is empty or blank.

    Examples:
        >>> check_name("embodiment", " ")
        Traceback (most recent call last):
        ...
        vla_kit.errors.SettingError: embodiment must not be empty, got ' '. Write what it names.
    """
    if name is not None and not name.strip():
        raise SettingError(f"{argument} must not be empty, got {name!r}. Write what it names.")
