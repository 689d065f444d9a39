"""Begin a stage with the weights of the stage before."""

from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch import Callback, Trainer
from torch import Tensor

from vla_kit.actions import QuantileNormalizer
from vla_kit.errors import CheckpointError
from vla_kit.training._adapted_weights import with_adapters
from vla_kit.training._checkpoint_file import read_checkpoint
from vla_kit.training._fit import STATISTICS, check_fit, statistics_of
from vla_kit.training.vla_module import VLAModule

__all__ = ["WarmStart", "load_weights"]


class WarmStart(Callback):
    """Loads the weights of another run before training; optimiser, schedule and step count start anew.

    Everything must fit: a checkpoint of a model of another shape is refused by name. A model with LoRA takes the
    weights of one without, and its adapters begin as new. The other way round is refused: merge the adapters first,
    with `merge_lora`. The vocabulary of the checkpoint replaces that of the backbone. Statistics of robots that the new
    stage shares with the old one must be the same; robots of either stage alone are kept. A model that finds states in
    the prompt may begin with one that read none, for the weights are the same. Parts that a stage adds, such as the
    value head of reinforcement learning, begin as new. List it before callbacks that copy the
    model, such as weight averaging.

    A stage that follows another names its predecessor's checkpoint in its YAML file, so that it does not begin without.
    `--warm_start.checkpoint null` begins from scratch.

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
        CheckpointError: If the file is missing or broken, a key is missing or unknown, a shape differs, the checkpoint
            has adapters where the module has none, or the statistics of a robot differ.
    """
    own = _without_added(module)
    before = {key: value for key, value in _read(Path(checkpoint)).items() if not key.startswith(_added(module))}
    state = with_adapters(before, own, source=checkpoint)
    check_fit(state, own, source=checkpoint, remedy="Build the model with the settings of the stage before.")
    merged = {name: _merged(module, name, state, checkpoint) for name in STATISTICS}
    weights = {key: value for key, value in state.items() if statistics_of(key) is None}
    module.load_state_dict(weights, strict=False)  # compared above; statistics stay out
    for name, normalizer in merged.items():
        setattr(module, name, normalizer)


def _without_added(module: VLAModule) -> dict[str, Tensor]:
    """Weights of a module but for parts that only its stage has, which begin as new."""
    return {key: value for key, value in module.state_dict().items() if not key.startswith(_added(module))}


def _added(module: VLAModule) -> tuple[str, ...]:
    return tuple(f"{part}." for part in module.added_parts)


def _read(path: Path) -> Mapping[str, Tensor]:
    remedy = (
        "Run the stage before first, name its checkpoint with --warm_start.checkpoint, or begin from scratch with "
        "--warm_start.checkpoint null."
    )
    state: Mapping[str, Tensor] = read_checkpoint(path, remedy=remedy)["state_dict"]
    return state


def _merged(
    module: VLAModule, name: str, state: Mapping[str, Tensor], checkpoint: str | Path
) -> QuantileNormalizer | None:
    """Statistics of the stage before, and of the robots that only the module knows."""
    ours: QuantileNormalizer | None = getattr(module, name)
    before = {key.removeprefix(f"{name}."): value for key, value in state.items() if statistics_of(key) == name}
    if ours is None or not before:
        return ours
    merged = QuantileNormalizer()
    merged.load_state_dict(before)
    merged.to(ours.q01.device)
    for robot in ours.embodiments:
        mine, theirs = ours.fingerprints[robot], merged.fingerprints.get(robot)
        if theirs is None:
            merged.add(robot, ours.stats(robot), getattr(module.prompter.spec(robot), STATISTICS[name]))
        elif theirs != mine:
            raise CheckpointError(
                f"statistics of {robot!r} must be those of the stage before, got {mine} from the data and {theirs} in "
                f"{checkpoint}. Train both stages on the same data, or give the new data a robot name of its own."
            )
    return merged
