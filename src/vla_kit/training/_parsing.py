"""Lets jsonargparse read two of our types from YAML; imported wherever YAML or a checkpoint builds a model."""

from typing import Any

from jsonargparse import set_parsing_settings

from vla_kit.embodiment import EmbodimentSpec
from vla_kit.protocols import TimeSampler

__all__: list[str] = []

# A dataclass in YAML is its fields; a function that returns one, such as `preset`, has to be allowed by name.
set_parsing_settings(subclasses_enabled=[EmbodimentSpec])

# jsonargparse takes a class for an implementation of a protocol when their annotations are equal, and takes a protocol
# whose call returns a class for a factory of that class. No two jaxtyping annotations are equal, so `BetaTime` would
# not satisfy `TimeSampler`: the command line must not see what is returned.
TimeSampler.__call__.__annotations__["return"] = Any
