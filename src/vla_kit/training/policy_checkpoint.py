"""The policy of a training checkpoint."""

import math
from pathlib import Path

import torch

from vla_kit.errors import CheckpointError, SettingError
from vla_kit.policy import Policy
from vla_kit.training._checkpoint_file import read_checkpoint
from vla_kit.training.flow_ppo import FlowPPOModule
from vla_kit.training.vla_module import VLAModule

__all__ = ["load_policy", "save_policy"]


def load_policy(
    checkpoint: str | Path, *, device: str | torch.device = "cpu", temperature: float | None = None
) -> Policy:
    """Load a policy, whichever form it has.

    Args:
        checkpoint: Checkpoint of a `VLAModule` or `FlowPPOModule` that the command line trained, folder of
            `Policy.save`, or hub id.
        device: Where the policy runs.
        temperature: Factor on the noise; where None that of the folder, and 1 for a checkpoint.

    Returns:
        The policy.

    Raises:
        CheckpointError: If a folder or hub id holds no policy, or a file is missing, broken or of a model that Python
            built.
        SettingError: If `temperature` is negative or not finite, or there is no such device.
    """
    if temperature is not None and not 0 <= temperature < math.inf:
        raise SettingError(f"temperature must be at least 0 and finite, got {temperature}. Use 1.0.")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # an unknown word; a torch without CUDA
        reason = str(error).splitlines()[0]
        raise SettingError(f"device must be one of this machine, got {str(device)!r} ({reason}). Use cpu.") from error
    path = Path(checkpoint)
    if path.suffix != ".ckpt" and not path.is_file():
        return Policy.load(checkpoint, device=device, temperature=temperature)
    content = read_checkpoint(
        path, remedy="Train first, or make a folder one file with vla-kit consolidate.", mmap=True
    )
    if "_instantiator" not in content.get("hyper_parameters", {}):
        raise CheckpointError(
            f"checkpoint must be of a model that the command line built, got {path}, which knows no class paths. Build "
            "the module in Python, load_weights(module, checkpoint), and take Policy.from_module(module)."
        )
    kind = FlowPPOModule if "rollouts" in content else VLAModule
    module = kind.load_from_checkpoint(path, weights_only=True, map_location=device)
    return Policy.from_module(module, temperature=1.0 if temperature is None else temperature)


def save_policy(checkpoint: str, output: str, temperature: float = 1.0) -> None:
    """Turn a training checkpoint into the folder that `Policy.load` reads; LoRA is merged into the weights.

    Args:
        checkpoint: Checkpoint of a `VLAModule` that the command line trained.
        output: Folder to write; not there yet, or empty.
        temperature: Factor on the noise with which the policy will act.

    Raises:
        CheckpointError: If `checkpoint` is missing, broken, or of a model that Python built.
        SettingError: If `output` has content, or a part cannot say how it is built again.
    """
    policy = load_policy(checkpoint, temperature=temperature)
    backbone = policy.backbone
    if isinstance(backbone, torch.nn.Module) and any(hasattr(module, "lora_A") for module in backbone.modules()):
        from vla_kit.backbones.lora import merge_lora  # needs the extra lora, as the checkpoint did

        merge_lora(backbone)
    policy.save(output)
