"""The model card of a saved policy."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from vla_kit.embodiment import EmbodimentSpec

__all__ = ["model_card"]

_TEMPLATE = """---
library_name: vla-kit
pipeline_tag: robotics
tags: [robotics, vision-language-action, vla-kit]
---

# Policy

Pictures and an instruction in, chunks of native actions out. Written by vla-kit {version}.

```python
import numpy as np
from vla_kit.policy import Policy, PolicyObservation

policy = Policy.load("this folder or owner/name", device="cpu")
picture = np.zeros((96, 96, 3), dtype=np.uint8)  # RGB, as the camera gives it
seen = PolicyObservation(embodiment="{robot}", instruction="...", views={{"cam_high": picture}})
(chunk,) = policy.act([seen])  # [step, channel], native units
```

## Robots

{robots}

## Parts

{parts}

No pickles and no code: `policy.yaml` names classes of vla-kit, `embodiments.yaml` the robots, `statistics.json` the
quantiles with a fingerprint each, `model.safetensors` the weights.

## Training data, evaluation, limits

Not recorded by the library. Fill in the training data, how often the policy succeeds, and where it must not be used.
"""


def model_card(
    settings: Mapping[str, Any],
    *,
    specs: Sequence[EmbodimentSpec],
    with_statistics: Sequence[str],
    modules: nn.ModuleDict,
) -> str:
    """Write the card: what the policy is, which robots it knows, how it is loaded.

    Args:
        settings: What stands in `policy.yaml`.
        specs: Robots of the prompter.
        with_statistics: Names of the robots that can act.
        modules: Backbone and head, to be counted.

    Returns:
        Markdown with the front matter of the hub.
    """
    shown = [spec for spec in specs if spec.name in with_statistics]
    rows = ["| name | robot | rate [Hz] | chunk | actions |", "| --- | --- | --- | --- | --- |"]
    for spec in shown:
        groups = ", ".join(
            f"{group.count} {group.name} ({group.reference}, {group.unit})" for group in spec.action_space.groups
        )
        rows.append(f"| `{spec.name}` | {spec.robot_tag} | {spec.rate_hz:g} | {spec.chunk_size} | {groups} |")
    parts = ["| part | class | parameters |", "| --- | --- | --- |"]
    for name in ("backbone", "head", "solver"):
        count = sum(parameter.numel() for parameter in modules[name].parameters()) if name in modules else 0
        parts.append(f"| {name} | `{settings[name]['class_path']}` | {count:,} |")
    return _TEMPLATE.format(
        version=settings["vla_kit"],
        robot=shown[0].name if shown else "...",
        robots="\n".join(rows),
        parts="\n".join(parts),
    )
