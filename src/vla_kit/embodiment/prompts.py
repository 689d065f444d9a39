"""Prompts of a batch: where the state of a robot meets the words."""

from collections.abc import Callable, Sequence
from typing import Any

from vla_kit.actions import MaskedActions

__all__ = ["write_prompts"]


def write_prompts(
    prompter: Callable[..., str],
    embodiments: Sequence[str],
    instructions: Sequence[str],
    *,
    chunk_sizes: Sequence[int] | None = None,
    states: MaskedActions | None = None,
) -> list[str]:
    """Write the prompt of each sample: the one function that the loader of training and a policy call.

    Args:
        prompter: `(embodiment, instruction) -> prompt`, an `EmbodimentPrompter`. It is given `chunk_size` and `state`
            too, where a sample has one.
        embodiments: Robot of each sample.
        instructions: What each was told.
        chunk_sizes: Number of actions that each prompt announces; the robot's own where None.
        states: What `StateScaler` made of the states; no prompt is given one where None.

    Returns:
        One prompt per sample.

    Examples:
        >>> write_prompts(lambda name, text: f"{name}: {text}", ["arm"], ["push"])
        ['arm: push']
    """
    none: list[dict[str, Any]] = [{} for _ in embodiments]
    counts = none if chunk_sizes is None else [{"chunk_size": count} for count in chunk_sizes]
    seen = none if states is None else [{"state": state[0]} if len(state) else {} for state in states.cut()]
    return [
        prompter(name, text, **count, **state)
        for name, text, count, state in zip(embodiments, instructions, counts, seen, strict=True)
    ]
