"""The policy of a training checkpoint."""

from pathlib import Path

import torch

from vla_kit.policy import Policy
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
        CheckpointError: If a folder or hub id holds no policy.
        SettingError: If `temperature` is negative.
    """
    path = Path(checkpoint)
    if path.suffix != ".ckpt" and not path.is_file():
        return Policy.load(checkpoint, device=device, temperature=temperature)
    kind = FlowPPOModule if _learned_from_reward(path) else VLAModule
    module = kind.load_from_checkpoint(path, weights_only=True, map_location=device)
    return Policy.from_module(module, temperature=1.0 if temperature is None else temperature)


def _learned_from_reward(checkpoint: Path) -> bool:
    content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    return "rollouts" in content


def save_policy(checkpoint: str, output: str, temperature: float = 1.0) -> None:
    """Turn a training checkpoint into the folder that `Policy.load` reads; LoRA is merged into the weights.

    Args:
        checkpoint: Checkpoint of a `VLAModule` that the command line trained.
        output: Folder to write; not there yet, or empty.
        temperature: Factor on the noise with which the policy will act.

    Raises:
        SettingError: If `output` has content, or a part cannot say how it is built again.
    """
    policy = load_policy(checkpoint, temperature=temperature)
    backbone = policy.backbone
    if isinstance(backbone, torch.nn.Module) and any(hasattr(module, "lora_A") for module in backbone.modules()):
        from vla_kit.backbones.lora import merge_lora  # needs the extra lora, as the checkpoint did

        merge_lora(backbone)
    policy.save(output)
