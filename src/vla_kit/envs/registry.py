"""Environments and experts by name; a simulator is imported only when its environment is made."""

from importlib import import_module
from typing import Any, Final

from vla_kit.envs.protocol import Expert, PolicyEnv
from vla_kit.envs.shifts import find_shift
from vla_kit.envs.tasks import find_task
from vla_kit.errors import SettingError

__all__ = ["make_env", "make_expert"]

_ENVS: Final = {
    "metaworld": ("vla_kit.envs.metaworld", "MetaWorldEnv"),
    "aloha": ("vla_kit.envs.aloha", "AlohaEnv"),
    "libero": ("vla_kit.envs.libero", "LiberoEnv"),
    "miniworld": ("vla_kit.envs.miniworld", "MiniWorldEnv"),
}
_OF_ONE_TASK: Final = {"aloha"}
_OF_ONE_RATE: Final = {"libero", "miniworld"}
_EXPERTS: Final = {
    "metaworld": ("vla_kit.envs.metaworld", "MetaWorldExpert"),
    "aloha": ("vla_kit.envs.aloha_expert", "AlohaTransferExpert"),
    "libero": ("vla_kit.envs.libero_expert", "LiberoExpert"),
    "miniworld": ("vla_kit.envs.miniworld_expert", "MiniWorldExpert"),
}


def make_env(
    name: str,
    *,
    image_size: int = 96,
    frame_skip: int | None = None,
    max_steps: int | None = None,
    shift: str | None = None,
) -> PolicyEnv:
    """Make an environment.

    Args:
        name: Name of a task, see `find_task`: `metaworld/faucet-open`, `aloha/transfer-cube`, `libero/spatial-0`,
            `miniworld/find-object`.
        image_size: Height and width of a picture [pixels].
        frame_skip: Simulator steps per decision; the adapter's own number where None, as it must be for LIBERO and
            MiniWorld.
        max_steps: Decisions after which an unsolved episode ends; the adapter's own number where None.
        shift: Change of the scene, a key of `vla_kit.envs.SHIFTS`. A change of words needs none: set `instruction` to
            `find_task(name).held_out_instruction(seed)`.

    Returns:
        The environment. Close it in the end.

    Raises:
        SettingError: If there is no such task, it has no such shift, or a number is not positive.
        MissingExtraError: If the simulator is not installed.
        SimulationError: If the system lacks the libraries that MuJoCo needs for rendering.

    Examples:
        >>> env = make_env("metaworld/faucet-open", image_size=64)
        >>> env.embodiment, env.rate_hz, env.max_steps
        ('metaworld_sawyer', 20.0, 50)
        >>> env.close()
    """
    simulator, _, short = find_task(name).name.partition("/")
    settings: dict[str, Any] = {"image_size": image_size}
    if frame_skip is not None and simulator in _OF_ONE_RATE:
        raise SettingError(f"frame_skip must be None for {name}, got {frame_skip}. Its rate is fixed.")
    if shift is not None and find_shift(shift, task=name).of_words:
        raise SettingError(
            f"shift must change the scene, got {shift!r}. Set env.instruction to find_task(name)."
            "held_out_instruction(seed)."
        )
    given = {"frame_skip": frame_skip, "max_steps": max_steps, "shift": shift}
    settings |= {key: value for key, value in given.items() if value is not None}
    if simulator not in _OF_ONE_TASK:
        settings["task"] = short
    env: PolicyEnv = _load(_ENVS[simulator])(**settings)
    return env


def make_expert(env: PolicyEnv) -> Expert:
    """Make the demonstrator of an environment that `make_env` made.

    Args:
        env: The environment that the expert will act in.

    Returns:
        The expert; reset it after each reset of the environment.

    Raises:
        SettingError: If no task of the registry is called `env.task`, or nobody wrote an expert for it.

    Examples:
        >>> env = make_env("metaworld/faucet-open")
        >>> expert = make_expert(env)
        >>> type(expert).__name__
        'MetaWorldExpert'
        >>> env.close()
    """
    simulator = find_task(env.task).name.partition("/")[0]
    expert: Expert = _load(_EXPERTS[simulator])(env)
    return expert


def _load(where: tuple[str, str]) -> Any:  # noqa: ANN401  (a class)
    module, name = where
    return getattr(import_module(module), name)
