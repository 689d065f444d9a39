"""The command line `vla-kit`: Lightning's verbs over YAML files, and a table of further verbs."""

import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
from jsonargparse import auto_cli
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import CheckpointIO

import vla_kit.training._parsing  # noqa: F401  (lets the parser read our types)
from vla_kit.data.set_blocks import check_set_blocks
from vla_kit.embodiment import History
from vla_kit.envs import EnvRecipe
from vla_kit.errors import SettingError, VLAKitError
from vla_kit.policy.place import local_policy
from vla_kit.training._config_file import read_config
from vla_kit.training.atomic_checkpoint import AtomicCheckpointIO
from vla_kit.training.final_checkpoint import FinalCheckpoint
from vla_kit.training.finite_gradients import FiniteGradients
from vla_kit.training.half_weights import HalfWeights
from vla_kit.training.parameter_table import print_parameters
from vla_kit.training.policy_checkpoint import load_policy
from vla_kit.training.step_seed import StepSeed
from vla_kit.training.vla_module import VLAModule
from vla_kit.training.warm_start import WarmStart

__all__ = ["VERBS", "VLACLI", "console", "evaluate_checkpoint", "main"]

VERBS: Final[dict[str, str]] = {
    "evaluate": "vla_kit.cli:evaluate_checkpoint",
    "consolidate": "vla_kit.training.consolidate:consolidate_checkpoint",
    "policy save": "vla_kit.training.policy_checkpoint:save_policy",
    "serve": "vla_kit.serving.serve:serve",
    "envs serve": "vla_kit.envs.remote:serve_envs",
    "export": "vla_kit.export.command:export",
    "data synthesize": "vla_kit.data.synthesis.synthesize:synthesize",
    "data stats": "vla_kit.data.statistics.write:write_statistics",
    "data clean": "vla_kit.data.cleaning.clean:clean",
    "data convert": "vla_kit.data.conversion:convert",
    "data eigengrasps": "vla_kit.data.hand_grasps:write_eigengrasps",
    "data caption": "vla_kit.data.captions.caption:caption",
    "data review": "vla_kit.data.captions.review:review",
    "data rubric": "vla_kit.evaluation.caption_rubric:write_rubric",
    "data prompts": "vla_kit.data.captions.caption:write_prompt_folder",
}
"""Verb of one or two words -> `module:function`, beyond fit, validate, test and predict.

The function is imported when its verb is called, and its parameters become the arguments of the verb.
"""

_MODULE: Final = "vla_kit.training.vla_module.VLAModule"
_OF_A_DATA_SET: Final = [verb for verb in VERBS if verb.startswith("data ")]  # which names its set without an option


class VLACLI(LightningCLI):
    """Lightning's command line for `VLAModule` and any datamodule.

    A configuration may name another module in its line `module`, as that of reinforcement learning does:
    `module: vla_kit.training.flow_ppo.FlowPPOModule`.

    Configurations stack: later files and then arguments override earlier ones, and unknown keys are refused. What two
    parts share is linked, not repeated: the head's `context_width` is the backbone's `hidden`, where it has one.

    Everything that a run leaves lies in `--trainer.default_root_dir` (`runs` by default): `checkpoints/last.ckpt`,
    replaced every `--checkpoint.every_n_train_steps` steps and at the end; `logs/version_<n>/metrics.csv`, one folder
    per start, and beside it `config.yaml`. `--warm_start.checkpoint` begins with the weights of another run,
    `--ckpt_path` goes on with this one, bit for bit: the data and the noise of each step are those of a run that never
    stopped, and no other run is asked for. The model is that of the configurations; a checkpoint that does not fit it
    is refused.

    Args:
        args: Arguments in place of the command line's.

    Examples:
        ```
        vla-kit fit --config base.yaml --config stage3_sft.yaml --config size/tiny.yaml --trainer.max_steps 1000
        vla-kit validate --config base.yaml --config stage3_sft.yaml --ckpt_path runs/sft/checkpoints/last.ckpt
        vla-kit fit --config base.yaml --print_config
        ```
    """

    def __init__(self, args: Sequence[str] | None = None) -> None:
        given = sys.argv[1:] if args is None else args
        for path in _config_files(given):
            check_set_blocks(path)
        super().__init__(
            _module_class(given),
            LightningDataModule,
            subclass_mode_data=True,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs={"parser_mode": "yaml", "allow_abbrev": False},
            args=None if args is None else list(args),
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks of every run, and link what two parts share."""
        parser.add_argument("--module", default=_MODULE, help="Class of the module, read before all other settings.")
        parser.add_lightning_class_args(WarmStart, "warm_start")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(StepSeed, "step_seed")
        parser.add_lightning_class_args(FiniteGradients, "finite_gradients")
        parser.set_defaults(
            {
                "trainer.default_root_dir": "runs",
                "checkpoint.filename": "last",
                "checkpoint.enable_version_counter": False,
                "checkpoint.every_n_train_steps": 500,
            }
        )
        parser.link_arguments("trainer.default_root_dir", "checkpoint.dirpath", compute_fn=_checkpoint_folder)
        parser.link_arguments("seed_everything", "step_seed.seed", compute_fn=int)
        parser.link_arguments("model.backbone.init_args.hidden", "model.head.init_args.context_width")

    def before_instantiate_classes(self) -> None:
        """Leave the run before alone where this one goes on."""
        if self._get(self.config, "ckpt_path") is not None:
            self._get(self.config, "warm_start").checkpoint = None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 (Lightning's signature)
        """Log to CSV and write whole checkpoints, unless told otherwise; load weights before callbacks copy them."""
        settings = self._get(self.config_init, "trainer")
        if settings.logger is None:
            kwargs["logger"] = CSVLogger(settings.default_root_dir, name="logs", flush_logs_every_n_steps=10)
        plugins = settings.plugins or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins = [*plugins, AtomicCheckpointIO()]
        if settings.precision in ("bf16-true", "16-true") and settings.strategy == "auto":
            plugins, kwargs["precision"] = [*plugins, HalfWeights(settings.precision)], None
        kwargs["plugins"] = plugins
        trainer: Any = super().instantiate_trainer(**kwargs)
        trainer.callbacks.sort(key=lambda callback: not isinstance(callback, WarmStart))  # stable
        if not settings.fast_dev_run:  # which saves nothing
            saved = self._get(self.config, "checkpoint")
            path = Path(saved.dirpath) / f"{saved.filename}.ckpt"
            trainer.callbacks.insert(0, FinalCheckpoint(str(path), every_n_train_steps=saved.every_n_train_steps))
        started: Trainer = trainer
        return started

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would put the model of the checkpoint in place of the configured one, without a word."""


def _config_files(args: Sequence[str]) -> list[str]:
    """Files given with `--config FILE` or `--config=FILE`."""
    after = [value for flag, value in pairwise(args) if flag == "--config"]
    return after + [arg.removeprefix("--config=") for arg in args if arg.startswith("--config=")]


def _module_class(args: Sequence[str]) -> type[VLAModule]:
    """Class that the last file or argument names as `module`; `VLAModule` where none does."""
    found = _MODULE
    for path in _config_files(args):
        if Path(path).is_file():  # else it may be the text itself; the parser knows
            found = read_config(path).get("module", found)
    for flag, value in pairwise([*args, ""]):
        if flag == "--module":
            found = value
        elif flag.startswith("--module="):
            found = flag.removeprefix("--module=")
    module, _, name = str(found).rpartition(".")
    try:
        kind: Any = getattr(import_module(module), name)
    except (ValueError, ModuleNotFoundError, AttributeError) as error:
        raise SettingError(
            f"module must be the full name of a class, got {found!r} ({error}). Use {_MODULE}."
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, VLAModule)):
        raise SettingError(f"module must name a subclass of VLAModule, got {found!r}. Use {_MODULE}.")
    return kind


def _checkpoint_folder(root: str) -> str:
    return str(Path(root) / "checkpoints")


def evaluate_checkpoint(
    checkpoint: str,
    output: str,
    tasks: list[str] | None = None,
    envs: list[dict[str, Any]] | None = None,
    shifts: list[str] | None = None,
    episodes: int = 20,
    baseline_episodes: int = 20,
    replan_every: int = 8,
    history: History | None = None,
    workers: int = 4,
    timeout_s: float = 60.0,
    image_size: int = 96,
    temperature: float | None = None,
    record: int = 1,
) -> None:
    """Evaluate a policy, and write `summary.json`, `report.html` and every episode.

    The same command again goes on where an earlier one was stopped.

    Args:
        checkpoint: Checkpoint of a `VLAModule` that the command line trained, folder of `Policy.save`, or hub id.
        output: Folder to write to.
        tasks: Names, such as `metaworld/faucet-open`.
        envs: Environments of your own, each `class_path` and `init_args` of a class, such as
            `vla_kit.envs.gymnasium_env.GymnasiumEnv`.
        shifts: Changes to evaluate the tasks under too: camera, light, texture, distractors, pose, instruction.
        episodes: Episodes of the policy per task and per shift.
        baseline_episodes: Episodes of the expert and of random actions per task; 0 leaves them out.
        replan_every: Actions used of each chunk.
        history: Earlier frames that the policy sees too, as in its training data, such as
            `--history.frames 4 --history.rate_hz 2`.
        workers: Processes with one environment each; 0 runs one environment in this process.
        timeout_s: Longest time that a worker may take for one chunk, for a video or an episode of a baseline [s].
        image_size: Height and width of the pictures, as in training [pixel].
        temperature: Factor on the noise; where None that of the folder, and 1 for a checkpoint.
        record: Show so many successes and failures per task.
    """
    from vla_kit.evaluation.command import evaluate_into, fingerprint_policy

    place = Path(checkpoint)
    source = place if place.suffix == ".ckpt" or place.is_file() else local_policy(checkpoint)
    fingerprint = fingerprint_policy(source)
    policy = load_policy(source, device="cuda" if torch.cuda.is_available() else "cpu", temperature=temperature)
    evaluate_into(
        output,
        policy,
        identity={"checkpoint": fingerprint, "temperature": policy.temperature},
        notes=[f"Checkpoint: {checkpoint}"],
        tasks=tasks or (),
        envs=[EnvRecipe.parse(block) for block in envs or ()],
        shifts=shifts or (),
        episodes=episodes,
        baseline_episodes=baseline_episodes,
        replan_every=replan_every,
        history=history,
        workers=workers,
        timeout_s=timeout_s,
        image_size=image_size,
        record=record,
    )


def main(args: Sequence[str] | None = None) -> None:
    """Run `vla-kit`.

    Beyond Lightning's verbs there are those of `VERBS`: `vla-kit evaluate --help`, `vla-kit data stats --help`;
    `vla-kit params --config FILE` prints the size of a configuration's head.

    Args:
        args: Arguments in place of the command line's.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    verb = next((name for name in VERBS if arguments[: len(name.split())] == name.split()), None)
    if verb is not None:
        module, _, function = VERBS[verb].partition(":")
        rest = arguments[len(verb.split()) :]
        named = verb not in _OF_A_DATA_SET
        auto_cli(getattr(import_module(module), function), args=rest, prog=f"vla-kit {verb}", as_positional=not named)
    elif arguments[:1] == ["params"]:
        print_parameters(arguments[1:])
    elif choices := [f"vla-kit {name}" for name in VERBS if name.split()[:-1] == arguments[:1]]:
        sys.exit(
            f"vla-kit {arguments[0]} must be one of {choices}, got {arguments[1:]}. Add --help for the options of one."
        )
    else:
        VLACLI(args if args is None else arguments)


def console() -> None:
    """Run `vla-kit` for a person: what the library refuses on purpose is its text alone, without a traceback."""
    try:
        main()
    except VLAKitError as error:
        sys.exit("\n".join([f"vla-kit: {error}", *getattr(error, "__notes__", ())]))


if __name__ == "__main__":
    console()
