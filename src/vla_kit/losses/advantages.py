"""How much better a chunk was than expected: from values (GAE) or from a group of tries (GRPO)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vla_kit.errors import NonFiniteError, SettingError, ShapeError

__all__ = ["generalized_advantages", "group_advantages", "normalise_advantages"]


def generalized_advantages(
    rewards: Float[Tensor, "chunk env"],
    values: Float[Tensor, "chunk env"],
    next_values: Float[Tensor, "chunk env"],
    terminated: Bool[Tensor, "chunk env"],
    truncated: Bool[Tensor, "chunk env"],
    *,
    discount: float = 0.99,
    trace: float = 0.95,
) -> tuple[Float[Tensor, "chunk env"], Float[Tensor, "chunk env"]]:
    """Generalised advantage estimation with a chunk of actions as one step.

    Row `i + 1` of an environment follows row `i`, in the same episode or, after an end, in the next one:

        error = reward + discount * next_value - value          (without next_value where terminated)
        advantage = error + discount * trace * next advantage   (without it where terminated or truncated)

    An episode that ends in success or failure has no future, so nothing is bootstrapped. One that is cut off by a limit
    of time has, so `next_values` counts. It also counts after the last row, where the rollout stops but the episode
    does not.

    Args:
        rewards: Sum of the rewards within each chunk.
        values: Value of the observation before the chunk.
        next_values: Value of the observation after the chunk, before any reset; where `terminated`, anything.
        terminated: True where the episode ended within the chunk, by success or failure. It wins over `truncated`.
        truncated: True where the episode was cut off after the chunk.
        discount: Weight of the future per chunk, in [0, 1].
        trace: Weight of later errors, in [0, 1]: 0 trusts the values, 1 the rewards.

    Returns:
        Advantages, and returns (`advantages + values`), the targets of the value head.

    Raises:
        SettingError: If `discount` or `trace` is out of range.
        ShapeError: If shapes differ.
        NonFiniteError: If a reward or a value that counts is inf or NaN.

    Examples:
        Two chunks; the second succeeds:

        >>> import torch
        >>> column = lambda *entries: torch.tensor(entries)[:, None]
        >>> advantages, returns = generalized_advantages(
        ...     rewards=column(0.0, 1.0),
        ...     values=column(0.5, 0.6),
        ...     next_values=column(0.6, 0.0),
        ...     terminated=column(False, True),
        ...     truncated=column(False, False),
        ...     discount=0.9,
        ...     trace=0.5,
        ... )
        >>> advantages.flatten()  # 0 + 0.9 * 0.6 - 0.5 + 0.9 * 0.5 * 0.4, and 1 - 0.6
        tensor([0.2200, 0.4000])

    Source:
        Schulman et al., arXiv 1506.02438, equation 16. Qwen-VLA, arXiv 2605.30280, section 4.2: 0.99, 0.95, chunks.
    """
    for name, weight in (("discount", discount), ("trace", trace)):
        if not 0 <= weight <= 1:
            raise SettingError(f"{name} must lie in [0, 1], got {weight}. The paper's are 0.99 and 0.95.")
    for name, part in (
        ("values", values), ("next_values", next_values), ("terminated", terminated), ("truncated", truncated),
    ):  # fmt: skip
        if part.shape != rewards.shape:
            raise ShapeError(
                f"{name} must have the shape of rewards {tuple(rewards.shape)}, got {tuple(part.shape)}. "
                "Give one entry per chunk and environment."
            )
    following = torch.where(terminated, 0, next_values)
    errors = rewards + discount * following - values
    if not bool(errors.isfinite().all()):
        raise NonFiniteError(
            "rewards, values and next_values must be finite, got inf or NaN. Look at the environment's reward first, "
            "then at the value head."
        )
    carried = discount * trace * (~(terminated | truncated)).to(errors.dtype)
    advantages = torch.empty_like(errors)
    later = errors.new_zeros(errors.shape[1:])
    for row in reversed(range(len(errors))):
        later = errors[row] + carried[row] * later
        advantages[row] = later
    return advantages, advantages + values


def group_advantages(
    rewards: Float[Tensor, " episode"], groups: Int[Tensor, " episode"], *, floor: float = 1e-6
) -> Float[Tensor, " episode"]:
    """Reward of an episode against its group: minus the group's mean, over the group's deviation.

    A group is several tries from the same beginning. It needs no value head. Where all tries of a group get the same
    reward, there is nothing to learn, and all of its advantages are exactly 0. Every chunk of an episode gets the
    episode's advantage.

    Args:
        rewards: Sum of the rewards of each episode.
        groups: Number of the group of each episode, any integers.
        floor: Smallest deviation to divide by, above 0.

    Returns:
        Advantages. The deviation is that of the group itself (over n, not n - 1).

    Raises:
        SettingError: If `floor` is not above 0.
        ShapeError: If shapes differ.
        NonFiniteError: If a reward is inf or NaN.

    Examples:
        >>> import torch
        >>> group_advantages(torch.tensor([0.0, 1.0, 1.0, 1.0]), torch.tensor([3, 3, 8, 8]))
        tensor([-1.,  1.,  0.,  0.])

    Source:
        GRPO, DeepSeekMath, arXiv 2402.03300, section 4.1.2. Not in Qwen-VLA, which uses PPO with a value head.
    """
    if not floor > 0:
        raise SettingError(f"floor must be above 0, got {floor}. Use 1e-6.")
    if groups.shape != rewards.shape:
        raise ShapeError(
            f"groups must have the shape of rewards {tuple(rewards.shape)}, got {tuple(groups.shape)}. "
            "Give the number of the group of each episode."
        )
    if not bool(rewards.isfinite().all()):
        raise NonFiniteError("rewards must be finite, got inf or NaN. Look at the environment's reward.")
    _, member = groups.unique(return_inverse=True)
    count = int(member.max()) + 1 if len(member) else 0
    largest, smallest, mean = (
        rewards.new_zeros(count).scatter_reduce(0, member, rewards, how, include_self=False)
        for how in ("amax", "amin", "mean")
    )
    apart = rewards - mean[member]
    variance = rewards.new_zeros(count).scatter_reduce(0, member, apart.square(), "mean", include_self=False)
    # A mean of equal numbers need not be that number in floating point.
    return torch.where((largest > smallest)[member], apart / variance.sqrt().clamp(min=floor)[member], 0)


def normalise_advantages(advantages: Float[Tensor, "*shape"], *, floor: float = 1e-6) -> Float[Tensor, "*shape"]:
    """Advantages with mean 0 and deviation 1; all exactly 0 where they are equal.

    Args:
        advantages: Of all chunks of a rollout, of any shape. Normalise them once, not per minibatch.
        floor: Smallest deviation to divide by, above 0. A higher one keeps rollouts in which nothing happened from
            being blown up to size 1.

    Raises:
        SettingError: If `floor` is not above 0.
        NonFiniteError: If an advantage is inf or NaN.

    Examples:
        >>> import torch
        >>> normalise_advantages(torch.tensor([1.0, 3.0]))
        tensor([-1.,  1.])

    Source:
        RLinf normalises advantages over the rollout; Qwen-VLA does not say.
    """
    flat = advantages.flatten()
    return group_advantages(flat, torch.zeros_like(flat, dtype=torch.long), floor=floor).reshape(advantages.shape)
