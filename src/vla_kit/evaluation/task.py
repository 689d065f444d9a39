"""What an evaluation needs to know of a task: how to make it, who solves it, what else is said, what may change."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from vla_kit.envs import Expert, PolicyEnv, find_shift, find_task, make_env, make_expert
from vla_kit.errors import SettingError

__all__ = ["EvaluationTask", "ShiftedScenes", "own_task", "registered_task"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftedScenes:
    """A task under one change.

    Args:
        make_env: Makes the changed environment.
        instruction: Seed -> what to say, where the change is one of words.
    """

    make_env: Callable[[], PolicyEnv]
    instruction: Callable[[int], str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationTask:
    """One row of an evaluation.

    Args:
        name: Name in the table, that of the environment.
        make_env: Makes an environment; pickled where it runs in a worker.
        make_expert: Makes the demonstrator, where there is one.
        swapped: Seed -> the sentence of the task that shares the scenes, where there is one.
        shifts: Name of a change -> the task under it.

    Raises:
        SettingError: If `name` is empty.
    """

    name: str
    make_env: Callable[[], PolicyEnv]
    make_expert: Callable[[PolicyEnv], Expert] | None = None
    swapped: Callable[[int], str] | None = None
    shifts: Mapping[str, ShiftedScenes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise SettingError("name must not be empty, got ''. Take that of the environment.")


def registered_task(name: str, *, image_size: int = 96, shifts: Sequence[str] = ()) -> EvaluationTask:
    """A task of the registry.

    Args:
        name: Key of `vla_kit.envs.TASKS`.
        image_size: Height and width of a picture [pixels].
        shifts: Changes to evaluate under, keys of `vla_kit.envs.SHIFTS`.

    Returns:
        The task, with its demonstrator and, where it has a partner, the partner's sentences.

    Raises:
        SettingError: If there is no such task or shift, the task's simulator does not have the shift, or `image_size`
            is below 1.

    Examples:
        >>> task = registered_task("metaworld/faucet-open", shifts=["camera"])
        >>> task.swapped(0), list(task.shifts)
        ('push the handle of the faucet to the left', ['camera'])
    """
    if image_size < 1:
        raise SettingError(f"image_size must be at least 1, got {image_size}. Use that of training.")
    known = find_task(name)
    partner = known.shares_scene_with
    make = partial(make_env, name, image_size=image_size)
    shifted = {}
    for shift in shifts:
        if find_shift(shift, task=name).of_words:
            shifted[shift] = ShiftedScenes(make_env=make, instruction=known.held_out_instruction)
        else:
            shifted[shift] = ShiftedScenes(make_env=partial(make, shift=shift))
    return EvaluationTask(
        name=name,
        make_env=make,
        make_expert=make_expert,
        swapped=None if partner is None else find_task(partner).instruction,
        shifts=shifted,
    )


def own_task(make_env: Callable[[], PolicyEnv]) -> EvaluationTask:
    """A task that is not in the registry: its environment is made once, here, to learn its name.

    Args:
        make_env: Makes an environment of the task.

    Returns:
        The task, without a demonstrator.
    """
    env = make_env()
    try:
        return EvaluationTask(name=env.task, make_env=make_env)
    finally:
        env.close()
