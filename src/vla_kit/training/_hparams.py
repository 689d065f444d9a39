"""What a checkpoint remembers of how its model was built."""

import inspect
from typing import Any

from lightning.pytorch import LightningModule

import vla_kit.training._parsing  # noqa: F401  (a checkpoint with class paths is parsed when it is loaded)

__all__ = ["record_hyperparameters"]


def record_hyperparameters(module: LightningModule) -> None:
    """Record the constructor's arguments; call it last in a constructor.

    A model that a command line built keeps class paths and arguments of all its parts, so
    `Module.load_from_checkpoint(path, weights_only=True)` builds it again. A model that Python built keeps its plain
    settings alone, and the parts are given again:
    `Module.load_from_checkpoint(path, weights_only=True, backbone=backbone, head=head, ...)`.
    Parts never enter the file as pickles.

    Args:
        module: The module under construction.
    """
    frame = inspect.currentframe()
    caller = frame.f_back if frame is not None else None
    constructor: Any = type(module).__init__
    if caller is None or caller.f_code is not constructor.__code__:
        return  # the constructor of a class above; the one that was called has all arguments
    arguments = dict(caller.f_locals)
    names = list(inspect.signature(constructor).parameters)
    for name in names:
        if inspect.signature(constructor).parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= arguments[name]
    parts = [name for name in arguments if not _is_plain(arguments[name])]
    module.save_hyperparameters(ignore=parts, frame=caller, logger=False)
    if "_instantiator" in module.hparams:  # built by a command line, whose parts are class paths, not objects
        module.save_hyperparameters(logger=False)


def _is_plain(value: Any) -> bool:  # noqa: ANN401 (any argument of a constructor)
    if isinstance(value, list | tuple):
        return all(_is_plain(entry) for entry in value)
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(entry) for key, entry in value.items())
    return value is None or type(value) in (bool, int, float, str)
