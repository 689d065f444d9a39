"""The learning rate over a run: a linear rise, then half a cosine down."""

import math

from vla_kit.errors import SettingError

__all__ = ["Schedule", "warmup_cosine"]


def warmup_cosine(step: int, *, warmup_steps: int, total_steps: float, final: float = 0.0) -> float:
    """Factor on the peak learning rate at an optimiser step.

    Args:
        step: Optimiser steps done, from 0.
        warmup_steps: Steps of the linear rise; step 0 already has a factor above 0.
        total_steps: Steps of the whole run; infinity keeps the peak after the rise.
        final: Factor at the end, in [0, 1].

    Returns:
        Factor in [0, 1].

    Raises:
        SettingError: If a number is out of range.

    Examples:
        >>> [round(warmup_cosine(step, warmup_steps=2, total_steps=6), 2) for step in range(7)]
        [0.5, 1.0, 1.0, 0.85, 0.5, 0.15, 0.0]

    Source:
        Qwen-VLA, arXiv 2605.30280, section 4: cosine decay in post-training. Warm-up and final rate are not given.
    """
    if warmup_steps < 0:
        raise SettingError(f"warmup_steps must be at least 0, got {warmup_steps}. Use 0 for no warm-up.")
    if not total_steps >= 0:
        raise SettingError(f"total_steps must be at least 0, got {total_steps}. Give the steps of the run.")
    if not 0 <= final <= 1:
        raise SettingError(f"final must lie in [0, 1], got {final}. Use 0 to end at 0.")
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if math.isinf(total_steps):
        return 1.0
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class Schedule:
    """`warmup_cosine` as an object: LambdaLR saves the settings of an object, but cannot save a lambda.

    Args:
        warmup_steps: As in `warmup_cosine`.
        total_steps: As there.
        final: As there.

    Raises:
        SettingError: If a number is out of range.

    Examples:
        >>> schedule = Schedule(warmup_steps=2, total_steps=10, final=0.0)
        >>> schedule(0), schedule(1), schedule(2)
        (0.5, 1.0, 1.0)
    """

    def __init__(self, warmup_steps: int, total_steps: float, final: float) -> None:
        warmup_cosine(0, warmup_steps=warmup_steps, total_steps=total_steps, final=final)
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.final = final

    def __call__(self, step: int) -> float:
        """Factor on the learning rate at a step."""
        return warmup_cosine(step, warmup_steps=self.warmup_steps, total_steps=self.total_steps, final=self.final)
