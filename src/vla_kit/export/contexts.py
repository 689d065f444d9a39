"""What every backbone in a graph has in common."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from torch import Tensor

from vla_kit.protocols import Context

__all__ = ["ContextGraph"]


@runtime_checkable
class ContextGraph(Protocol):
    """A backbone as a graph takes it, an `nn.Module`: tensors in, context out, without a look at their values.

    Attributes:
        axes: Input -> names of its axes.
        longest: Axis that may be of any length -> its largest one.
        fixed: Axis of words that may not -> why.
    """

    axes: Mapping[str, tuple[str, ...]]
    longest: Mapping[str, int]
    fixed: Mapping[str, str]

    def arrange(self, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inputs of the graph from what `Backbone.prepare` made."""
        ...

    def traceable(self) -> AbstractContextManager[None]:
        """While the context is open the network takes paths that can be traced, with the same results."""
        ...

    def __call__(self, inputs: Mapping[str, Tensor]) -> Context:
        """Run the backbone."""
        ...
