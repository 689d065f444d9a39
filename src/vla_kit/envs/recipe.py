"""An environment written down: a class with its arguments, as YAML has them."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Self

from vla_kit.envs.protocol import PolicyEnv
from vla_kit.errors import SettingError

__all__ = ["EnvRecipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvRecipe:
    """Makes an environment when it is called; plain values, so that a worker process can be given it.

    Args:
        class_path: Full name of a class whose objects satisfy `PolicyEnv`.
        init_args: Its arguments.

    Raises:
        SettingError: If there is no such class, or it does not take these arguments.

    Examples:
        >>> recipe = EnvRecipe(class_path="vla_kit.envs.metaworld.MetaWorldEnv", init_args={"task": "reach"})
        >>> env = recipe()
        >>> env.task
        'metaworld/reach'
        >>> env.close()
    """

    class_path: str
    init_args: Mapping[str, Any]

    def __post_init__(self) -> None:
        try:
            inspect.signature(self._find()).bind(**self.init_args)
        except TypeError as error:
            raise SettingError(
                f"init_args must be the arguments of {self.class_path}, got {dict(self.init_args)}: {error}. Look "
                "them up in its documentation."
            ) from error

    @classmethod
    def parse(cls, block: Mapping[str, Any]) -> Self:
        """Read a block of YAML with `class_path` and, where the class takes arguments, `init_args`.

        Args:
            block: The block.

        Returns:
            The recipe.

        Raises:
            SettingError: If a key is missing or unknown, or the class does not take these arguments.
        """
        if "class_path" not in block or set(block) - {"class_path", "init_args"}:
            raise SettingError(
                f"envs must hold blocks of class_path and init_args, got {dict(block)}. Name a class such as "
                "vla_kit.envs.gymnasium_env.GymnasiumEnv."
            )
        given = block.get("init_args") or {}
        if not isinstance(given, Mapping):
            raise SettingError(f"init_args must be a mapping, got {given!r}. Write name: value.")
        return cls(class_path=str(block["class_path"]), init_args=dict(given))

    def __call__(self) -> PolicyEnv:
        """Make one."""
        env: PolicyEnv = self._find()(**self.init_args)
        return env

    def _find(self) -> Any:  # noqa: ANN401 (a class)
        module, _, name = self.class_path.rpartition(".")
        try:
            return getattr(import_module(module), name)
        except (ValueError, ModuleNotFoundError, AttributeError) as error:
            raise SettingError(
                f"class_path must be the full name of a class, got {self.class_path!r} ({error}). Is it installed?"
            ) from error
