"""A policy as a folder: readable settings, robots and statistics, and weights without pickles."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
import yaml
from safetensors.torch import save_model
from torch import nn

import vla_kit
from vla_kit.actions import EigengraspBasis, QuantileNormalizer, QuantileStats
from vla_kit.data.eigengrasp_file import load_eigengrasps, save_eigengrasps
from vla_kit.embodiment import EmbodimentPrompter
from vla_kit.errors import CheckpointError, SettingError, StatisticsError, VLAKitError
from vla_kit.policy.card import model_card
from vla_kit.policy.description import build, describe
from vla_kit.policy.prediction import Inpainting, Solver
from vla_kit.policy.weights import read_weights
from vla_kit.protocols import Backbone

__all__ = ["FILES", "read_policy", "whole_or_nothing", "write_policy"]

_FORMAT: Final = 1
_SPACES: Final = {"actions": "action_space", "states": "state_space"}
_PARTS: Final = ("backbone", "head", "solver", "inpainting")
_SETTINGS, _ROBOTS, _STATISTICS, _WEIGHTS = "policy.yaml", "embodiments.yaml", "statistics.json", "model.safetensors"
_HANDS: Final = "eigengrasps.safetensors"
FILES: Final = (_SETTINGS, _ROBOTS, _STATISTICS, _WEIGHTS, _HANDS, "README.md", "backbone/*")
"""What a folder holds, as patterns; nothing else is ever fetched."""


def write_policy(
    folder: str | Path,
    *,
    backbone: nn.Module,
    head: nn.Module,
    prompter: EmbodimentPrompter,
    normalizer: QuantileNormalizer,
    solver: Solver,
    channels: int,
    temperature: float,
    inpainting: Inpainting,
    state_normalizer: QuantileNormalizer | None = None,
    hand_basis: EigengraspBasis | None = None,
) -> None:
    """Write the parts of a policy; see `Policy.save`.

    Args:
        folder: Not there yet, or empty.
        backbone: As in `Policy`, as are all the following.
        head: Predicts the velocity.
        prompter: Writes the prompts.
        normalizer: Statistics; those of robots that the prompter does not know are left out.
        solver: Integrates the velocity.
        channels: Padded action width.
        temperature: Factor on the noise.
        inpainting: Solves for chunks whose beginning is known.
        state_normalizer: Statistics of the states; None for a policy that reads none.
        hand_basis: Eigengrasps of human hands; None for a policy without hands.

    Raises:
        SettingError: If the folder has content, or a part cannot say how it is built again.
        CheckpointError: If the backbone has LoRA adapters that are not merged.
    """
    statistics = {"actions": _statistics(normalizer, prompter, "action_space")}
    if state_normalizer is not None:
        statistics["states"] = _statistics(state_normalizer, prompter, "state_space")
    modules = nn.ModuleDict({"backbone": backbone, "head": head})
    with whole_or_nothing(Path(folder)) as partial:
        settings: dict[str, Any] = {"format": _FORMAT, "vla_kit": vla_kit.__version__}
        for name, part in (("backbone", backbone), ("head", head), ("solver", solver), ("inpainting", inpainting)):
            settings[name] = describe(part, folder=partial, name=name)
        settings |= {"channels": channels, "temperature": float(temperature)}
        _write_yaml(partial / _SETTINGS, settings)
        _write_yaml(partial / _ROBOTS, describe(prompter, folder=partial, name="prompter"))
        (partial / _STATISTICS).write_text(json.dumps(statistics, indent=2) + "\n", encoding="utf-8")
        save_model(modules, str(partial / _WEIGHTS), metadata={"format": "pt"})
        if hand_basis is not None:
            save_eigengrasps(hand_basis, partial / _HANDS)
        card = model_card(settings, specs=prompter.specs, with_statistics=list(statistics["actions"]), modules=modules)
        (partial / "README.md").write_text(card, encoding="utf-8")


def read_policy(
    folder: str | Path, *, device: str | torch.device = "cpu", allowed: Sequence[type] = ()
) -> dict[str, Any]:
    """Read what `write_policy` wrote; see `Policy.load`.

    Args:
        folder: The folder.
        device: Where backbone, head and normaliser go.
        allowed: Classes of other libraries that the folder may name.

    Returns:
        The arguments of `Policy`.

    Raises:
        CheckpointError: If a file is missing, broken, of another format, or does not fit the others.
        SettingError: If a part refuses its settings, or the device is not there.
        StatisticsError: If statistics and robots differ in size.
    """
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # what torch gives for a name it does not know, and for no GPU
        raise SettingError(
            f"device must be one that torch finds here, got {str(device)!r}: {error}. Use 'cpu' or 'cuda'."
        ) from error
    root = Path(folder)
    for name in (_SETTINGS, _ROBOTS, _STATISTICS, _WEIGHTS):
        if not (root / name).is_file():
            raise CheckpointError(
                f"folder must be one that Policy.save wrote, got {root} without {name}. Copy the whole folder; a "
                "training checkpoint becomes one by `vla-kit policy save`."
            )
    settings = _read_yaml(root / _SETTINGS)
    if settings.get("format") != _FORMAT:
        raise CheckpointError(
            f"format must be {_FORMAT} for vla-kit {vla_kit.__version__}, got {settings.get('format')!r} in "
            f"{root / _SETTINGS}, which vla-kit {settings.get('vla_kit')} wrote. Install that version."
        )
    try:
        return _read_parts(root, settings, device=device, allowed=allowed)
    except VLAKitError as error:
        if settings.get("vla_kit") != vla_kit.__version__:
            error.add_note(f"{root} was written by vla-kit {settings.get('vla_kit')}; this is {vla_kit.__version__}.")
        raise


def _read_parts(
    root: Path, settings: Mapping[str, Any], *, device: str | torch.device, allowed: Sequence[type]
) -> dict[str, Any]:
    needed = {*_PARTS, "channels", "temperature"}
    if set(settings) != needed | {"format", "vla_kit"}:
        raise CheckpointError(
            f"{_SETTINGS} must hold the keys {sorted(needed)}, got {sorted(map(str, settings))}. Take the original."
        )
    for name, kinds in (("channels", (int,)), ("temperature", (int, float))):
        if type(settings[name]) not in kinds:
            raise CheckpointError(f"{name} must be a number, got {settings[name]!r} in {root}. Take the original.")
    _refuse_code(root)
    prompter = build(_read_yaml(root / _ROBOTS), folder=root, allowed=allowed)
    parts = {name: build(settings[name], folder=root, allowed=allowed) for name in _PARTS}
    for name, part, kind in (
        ("prompter", prompter, EmbodimentPrompter),
        ("backbone", parts["backbone"], Backbone),
        ("backbone", parts["backbone"], nn.Module),
        ("head", parts["head"], nn.Module),
        ("solver", parts["solver"], Solver),
        ("inpainting", parts["inpainting"], Inpainting),
    ):
        if not isinstance(part, kind):
            raise CheckpointError(
                f"{name} must be a {kind.__name__}, got {type(part).__name__} in {root}. Take the original."
            )
    normalizers = _read_statistics(root / _STATISTICS, prompter, channels=settings["channels"])
    states = normalizers.get("states")
    modules = nn.ModuleDict({"backbone": parts["backbone"], "head": parts["head"]})
    read_weights(modules, root / _WEIGHTS)
    modules.to(device)
    return {
        **parts,
        "prompter": prompter,
        "normalizer": normalizers["actions"].to(device),
        "state_normalizer": None if states is None else states.to(device),
        "channels": settings["channels"],
        "temperature": settings["temperature"],
        "hand_basis": load_eigengrasps(root / _HANDS) if (root / _HANDS).is_file() else None,
    }


def _statistics(normalizer: QuantileNormalizer, prompter: EmbodimentPrompter, kind: str) -> dict[str, Any]:
    """Quantiles and fingerprints of the robots that the prompter knows; `kind` names their space in the spec."""
    entries: dict[str, Any] = {}
    for name in normalizer.embodiments:
        space = getattr(prompter.spec(name), kind) if name in prompter.names else None
        if space is not None:
            fingerprints = {"fingerprint": normalizer.fingerprints[name], "space": space.fingerprint}
            entries[name] = fingerprints | normalizer.stats(name).to_dict()
    return entries


def _read_statistics(path: Path, prompter: EmbodimentPrompter, *, channels: int) -> dict[str, QuantileNormalizer]:
    """The normalisers, after a check that numbers and robots are those that were saved together."""
    normalizers: dict[str, QuantileNormalizer] = {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for kind in {"actions", *content}:
            normalizers[kind] = QuantileNormalizer()
            for name, entry in content[kind].items():
                _add_checked(normalizers[kind], name, entry, prompter, _SPACES[kind])
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        if isinstance(error, VLAKitError):
            raise
        raise CheckpointError(f"{path} must hold statistics per robot, got {error!r}. Take the original.") from error
    sizes = {name: prompter.spec(name).action_space.size for name in normalizers["actions"].embodiments}
    wide = {name: size for name, size in sizes.items() if size > channels}
    if wide:
        raise CheckpointError(
            f"channels must be at least the size of every robot's actions, got {channels} and {wide}. "
            f"Take {_SETTINGS} and {_ROBOTS} from one folder."
        )
    return normalizers


def _add_checked(
    normalizer: QuantileNormalizer, name: str, entry: Mapping[str, Any], prompter: EmbodimentPrompter, kind: str
) -> None:
    space = getattr(prompter.spec(name), kind) if name in prompter.names else None
    if space is None:
        raise CheckpointError(
            f"{_STATISTICS} must be of the robots {sorted(prompter.names)} of {_ROBOTS}, got {name!r}. "
            "Take both files from one folder."
        )
    try:
        normalizer.add(name, QuantileStats.from_dict(entry), space)
    except StatisticsError as error:
        raise StatisticsError(f"{_STATISTICS} must hold the statistics of {name!r}, got others: {error}") from error
    for key, now in (("fingerprint", normalizer.fingerprints[name]), ("space", space.fingerprint)):
        if entry[key] != now:
            raise CheckpointError(
                f"{key} of {name!r} must be {entry[key]}, the one that was saved, got {now}: "
                f"{_STATISTICS} or {_ROBOTS} was changed after training. Take the original folder."
            )


def _refuse_code(root: Path) -> None:
    """Refuse settings of transformers that name code outside of the installed libraries."""
    for path in sorted(root.rglob("*.json")):
        text = path.read_text(encoding="utf-8", errors="replace")  # what is broken is for its reader to say
        found = re.search(r'"(auto_map|custom_generate)"\s*:|"_?(attn|experts)_implementation\w*"\s*:\s*"[^"]*/', text)
        if found is not None:
            raise CheckpointError(
                f"backbone must name no code of its own, got {found[0]} in {path}. Ask the "
                "author of the folder for one without."
            )


@contextmanager
def whole_or_nothing(target: Path) -> Iterator[Path]:
    """A folder beside its place, moved there when it is complete.

    Args:
        target: Place; not there yet, or empty.

    Yields:
        The folder to write to.

    Raises:
        SettingError: If the place has content.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise SettingError(f"folder must not exist or be empty, got {target}. Choose another name, or delete it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield partial
        partial.chmod(0o755)
        partial.replace(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} must be YAML, got {error}. Take the original.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a mapping, got {type(content).__name__}. Take the original.")
    return content
