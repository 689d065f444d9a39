"""Begin a stage with the weights of the stage before."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from vla_kit.actions import QuantileNormalizer, QuantileStats
from vla_kit.errors import CheckpointError
from vla_kit.training.vla_module import VLAModule

__all__ = ["WarmStart", "load_weights"]

_SHOWN: Final = 6
_PREFIX: Final = "normalizer."


class WarmStart(Callback):
    """Loads the weights of another run before training; optimiser, schedule and step count start anew.

    Everything must fit: a checkpoint of a model of another shape is refused by name. The vocabulary of the checkpoint
    replaces that of the backbone. Statistics of robots that the new stage shares with the old one must be the same;
    robots of either stage alone are kept. List it before callbacks that copy the model, such as weight averaging.

    Args:
        checkpoint: Checkpoint of the stage before; nothing is loaded where None.

    Examples:
        >>> WarmStart("runs/t2a/checkpoints/last.ckpt").checkpoint
        'runs/t2a/checkpoints/last.ckpt'

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.1: each stage begins with the weights of the one before.
    """

    def __init__(self, checkpoint: str | None = None) -> None:
        self.checkpoint = checkpoint

    def setup(self, trainer: Trainer, pl_module: VLAModule, stage: str) -> None:  # type: ignore[override]
        """Load the weights when training begins.

        Raises:
            CheckpointError: If the file is missing or does not fit the model.
        """
        if stage == "fit" and self.checkpoint is not None:
            load_weights(pl_module, self.checkpoint)


def load_weights(module: VLAModule, checkpoint: str | Path) -> None:
    """Load the weights of a Lightning checkpoint into a module, all of them or none.

    Args:
        module: Takes the weights; its normaliser may hold other robots besides.
        checkpoint: Path of the file.

    Raises:
        CheckpointError: If the file is missing or broken, a key is missing or unknown, a shape differs, or the
            statistics of a robot differ.
    """
    state = _read(Path(checkpoint))
    own = module.state_dict()
    theirs, ours = ({key: value for key, value in one.items() if not _is_statistics(key)} for one in (state, own))
    problems = {
        "missing": sorted(set(ours) - set(theirs)),
        "unknown": sorted(set(theirs) - set(ours)),
        "of another shape": sorted(
            f"{key} {tuple(theirs[key].shape)} instead of {tuple(ours[key].shape)}"
            for key in set(ours) & set(theirs)
            if not key.endswith("_extra_state") and theirs[key].shape != ours[key].shape
        ),
    }
    found = [f"{len(keys)} {kind}: {_short(keys)}" for kind, keys in problems.items() if keys]
    if found:
        raise CheckpointError(
            f"checkpoint must fit the model, got {checkpoint} with {'; '.join(found)}. "
            "Build the model with the settings of the stage before."
        )
    normalizer = _merged(module, {key: value for key, value in state.items() if _is_statistics(key)}, checkpoint)
    module.load_state_dict(theirs, strict=False)  # compared above; statistics stay out
    module.normalizer = normalizer


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"checkpoint must be a file, got {path}. Run the stage before first.")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling a wrong file gives
        raise CheckpointError(f"checkpoint must be a Lightning checkpoint, got {path}: {error}.") from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"checkpoint must hold a state_dict, got {path}. Take a file that Trainer saved.")
    state: Mapping[str, Tensor] = content["state_dict"]
    return state


def _merged(module: VLAModule, state: Mapping[str, Tensor], checkpoint: str | Path) -> QuantileNormalizer:
    """Statistics of the stage before, and of the robots that only the module knows."""
    ours, merged = module.normalizer, QuantileNormalizer()
    merged.load_state_dict({key.removeprefix(_PREFIX): value for key, value in state.items()})
    merged.to(ours.q01.device)
    for index, name in enumerate(ours.embodiments):
        mine, before = ours.fingerprints[name], merged.fingerprints.get(name)
        if before is None:
            size = int(ours.sizes[index])
            stats = QuantileStats(q01=ours.q01[index, :size], q99=ours.q99[index, :size])
            merged.add(name, stats, module.action_spaces[name])
        elif before != mine:
            raise CheckpointError(
                f"statistics of {name!r} must be those of the stage before, got {mine} from the data and {before} in "
                f"{checkpoint}. Train both stages on the same data, or give the new data a robot name of its own."
            )
    return merged


def _is_statistics(key: str) -> bool:
    return key.startswith(_PREFIX)


def _short(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
