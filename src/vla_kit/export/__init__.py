"""A policy as one graph that runs without this library, through `torch.export` or in ONNX."""

from vla_kit.export.contexts import ContextGraph
from vla_kit.export.graphs import HeadGraph, PolicyGraph

__all__ = ["ContextGraph", "HeadGraph", "PolicyGraph"]
