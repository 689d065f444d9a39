"""Open a saved policy where it shall compute."""

import torch

from vla_kit.policy import Policy


def open_saved(checkpoint: str, *, device: str | None) -> Policy:
    """The policy of a folder, on a device of torch; on the first GPU, else the CPU, where None."""
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device is None else device
    return Policy.load(checkpoint, device=chosen)
