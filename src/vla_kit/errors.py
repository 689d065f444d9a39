"""Errors that name the argument, the rule, the value and the remedy.

Every error of vla-kit derives from `VLAKitError` and from the builtin that a caller would expect, so
`except ValueError` keeps working.
"""

__all__ = [
    "AnnotatorError",
    "CheckpointError",
    "DataError",
    "DtypeError",
    "EmbodimentError",
    "ExportError",
    "MissingExtraError",
    "MissingStatisticsError",
    "MissingToolError",
    "NonFiniteError",
    "OverloadError",
    "SettingError",
    "ShapeError",
    "StatisticsError",
    "VLAKitError",
]


class VLAKitError(Exception):
    """Base of every error that vla-kit raises on purpose."""


class ShapeError(VLAKitError, ValueError):
    """A tensor has the wrong shape."""


class DtypeError(VLAKitError, TypeError):
    """A tensor has the wrong dtype."""


class SettingError(VLAKitError, ValueError):
    """A constructor or function argument breaks its rule."""


class DataError(VLAKitError, ValueError):
    """A file or a data set is broken; the text names file, key and remedy."""


class StatisticsError(VLAKitError, ValueError):
    """Statistics do not fit the action space or contain impossible values."""


class MissingStatisticsError(VLAKitError, LookupError):
    """Statistics of an embodiment are needed and were never given."""


class EmbodimentError(VLAKitError, LookupError):
    """An embodiment name is unknown."""


class ExportError(VLAKitError, RuntimeError):
    """A policy cannot be traced, or what was exported answers otherwise than the policy."""


class AnnotatorError(VLAKitError, RuntimeError):
    """A model that annotates cannot be asked; the text says why and what to check."""


class OverloadError(VLAKitError, RuntimeError):
    """A server has more to do than it may queue; asking again later may succeed."""


class CheckpointError(VLAKitError, RuntimeError):
    """A checkpoint does not fit the model that should load it."""


class MissingExtraError(VLAKitError, ImportError):
    """An optional library is missing; the text is the command that installs it.

    Args:
        library: Import name of the missing library.
        extra: Extra of vla-kit that brings it.

    Examples:
        >>> raise MissingExtraError("metaworld", extra="metaworld")
        Traceback (most recent call last):
        ...
        vla_kit.errors.MissingExtraError: metaworld is not installed. Run: pip install 'vla-kit[metaworld]'
    """

    def __init__(self, library: str, *, extra: str) -> None:
        super().__init__(f"{library} is not installed. Run: pip install 'vla-kit[{extra}]'")


class MissingToolError(VLAKitError, RuntimeError):
    """A program of the operating system is missing; the text holds the command that installs it."""


class NonFiniteError(VLAKitError, ArithmeticError):
    """A gradient or a loss is inf or NaN; the text holds the remedy."""
