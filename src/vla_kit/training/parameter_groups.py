"""Parameter groups of an optimiser: per part a learning rate, per shape a weight decay."""

from collections.abc import Mapping
from typing import Any

from torch import nn

__all__ = ["parameter_groups"]


def parameter_groups(
    parts: Mapping[str, nn.Module], learning_rates: Mapping[str, float], *, weight_decay: float
) -> list[dict[str, Any]]:
    """Group what learns by part, and within a part by whether it decays: matrices do, vectors do not.

    Args:
        parts: Name -> module. A parameter that two parts share belongs to the first.
        learning_rates: Name -> peak learning rate.
        weight_decay: Of parameters with two or more axes.

    Returns:
        Groups for a torch optimiser with `params`, `lr`, `weight_decay`, `name` and `part`; empty ones are left out.

    Examples:
        >>> groups = parameter_groups({"head": nn.Linear(2, 3)}, {"head": 1e-3}, weight_decay=0.1)
        >>> [(group["name"], group["weight_decay"]) for group in groups]
        [('head', 0.1), ('head_vectors', 0.0)]
    """
    groups: list[dict[str, Any]] = []
    seen: set[int] = set()
    for part, module in parts.items():
        learning = [entry for entry in module.parameters() if entry.requires_grad and id(entry) not in seen]
        seen.update(id(entry) for entry in learning)
        for suffix, decay, members in (
            ("", weight_decay, [entry for entry in learning if entry.ndim >= 2]),
            ("_vectors", 0.0, [entry for entry in learning if entry.ndim < 2]),
        ):
            if members:
                groups.append(
                    {
                        "params": members,
                        "lr": learning_rates[part],
                        "weight_decay": decay,
                        "name": f"{part}{suffix}",
                        "part": part,
                    }
                )
    return groups
