"""What serving needs of a policy."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float

from vla_kit.embodiment import EmbodimentPrompter, StateScaler
from vla_kit.policy import PolicyObservation

__all__ = ["ServedPolicy", "state_sizes"]


class ServedPolicy(Protocol):
    """What serving needs of a policy; `Policy` has it."""

    @property
    def prompter(self) -> EmbodimentPrompter:
        """Knows the robots."""
        ...

    @property
    def states(self) -> StateScaler | None:
        """Scales the states of robots; None for a policy that reads none."""
        ...

    def act(self, observations: Sequence[PolicyObservation], /) -> Sequence[Float[np.ndarray, "step size"]]:
        """Answer each observation with a chunk of native actions."""
        ...


def state_sizes(policy: ServedPolicy) -> dict[str, int]:
    """Numbers in the state of each robot whose state the policy reads.

    Args:
        policy: Any.

    Returns:
        Embodiment -> size; without the robots that need no state.

    Examples:
        >>> from types import SimpleNamespace
        >>> from vla_kit.embodiment import preset
        >>> prompter = EmbodimentPrompter([preset("metaworld_sawyer"), preset("widowx")])
        >>> state_sizes(SimpleNamespace(prompter=prompter, states="some scaler", act=None))
        {'metaworld_sawyer': 4}
    """
    names = () if policy.states is None else policy.prompter.names
    specs = [policy.prompter.spec(name) for name in names]
    return {spec.name: spec.state_space.size for spec in specs if spec.state_space is not None}
