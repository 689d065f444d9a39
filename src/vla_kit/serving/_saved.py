"""Open a saved policy where it shall compute."""

import torch

from vla_kit.errors import SettingError
from vla_kit.policy import Policy


def open_saved(checkpoint: str, *, device: str | None) -> Policy:
    """The policy of a folder, on a device of torch; on the first GPU, else the CPU, where None.

    Raises:
        SettingError: If there is no such device.
    """
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device is None else device
    try:
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # an unknown word; a torch without CUDA
        reason = str(error).splitlines()[0]
        raise SettingError(f"device must be one of this machine, got {chosen!r} ({reason}). Use cpu.") from error
    return Policy.load(checkpoint, device=chosen)
