"""The words of every shape in vla-kit: one word, one meaning, in code, docs and einops patterns.

Examples:
    >>> AXES["horizon"]
    'steps of one action chunk, padded'
"""

from typing import Final

__all__ = ["AXES"]

AXES: Final[dict[str, str]] = {
    "batch": "samples",
    "draw": "noise draws per sample (several flow times and noises share one backbone pass)",
    "step": "steps of one trajectory or of one chunk at native length, nothing padded",
    "horizon": "steps of one action chunk, padded",
    "size": "channels of one robot's native action, not padded",
    "state_size": "channels of one robot's native state, not padded",
    "channel": "entries of one action, padded to the common width",
    "token": "context tokens of one sample, padded",
    "width": "features of one token",
    "axis": "rotary position axes: time, height, width",
    "head": "attention heads",
    "view": "camera views",
    "frame": "frames of one view, oldest first",
    "height": "image rows",
    "image_width": "image columns",
    "vocabulary": "token ids of the language model",
    "embodiment": "robots in one normaliser",
    "transition": "noisy steps of a stochastic sampler that a chunk remembers",
    "chunk": "chunks carried out one after another in one environment",
    "env": "environments side by side",
    "episode": "episodes of a rollout",
}
"""Axis word -> meaning. `batch draw` folded into one axis is always ordered sample-major."""
