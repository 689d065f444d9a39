"""The graph that fits a backbone."""

from collections.abc import Mapping

from torch import Tensor

from vla_kit.errors import ExportError
from vla_kit.export.contexts import ContextGraph
from vla_kit.protocols import Backbone

__all__ = ["context_graph"]


def context_graph(backbone: Backbone, prepared: Mapping[str, Tensor]) -> ContextGraph:
    """A backbone as a graph.

    Args:
        backbone: `QwenVLBackbone`, `TimmBackbone`, or one that is a `ContextGraph` itself.
        prepared: What its `prepare` made of observations like those to come.

    Returns:
        The graph; it shares the weights.

    Raises:
        ExportError: If there is none for this class.
        SettingError: If the observations do not make one graph.
        MissingExtraError: If transformers is too old.
    """
    from vla_kit.backbones.qwen_vl import QwenVLBackbone  # transformers loads when it is asked

    if isinstance(backbone, ContextGraph):
        return backbone
    if isinstance(backbone, QwenVLBackbone):
        from vla_kit.export.qwen import QwenGraph

        return QwenGraph(backbone, prepared)
    from vla_kit.backbones.timm_vit import TimmBackbone  # and so does timm

    if isinstance(backbone, TimmBackbone):
        from vla_kit.export.timm import TimmGraph

        return TimmGraph(backbone, prepared)
    raise ExportError(
        "backbone must be a QwenVLBackbone, a TimmBackbone or a ContextGraph of its own, got "
        f"{type(backbone).__name__}. Export the head alone, or write a ContextGraph."
    )
