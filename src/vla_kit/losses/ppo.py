"""Proximal policy optimisation: the clipped ratio, and what to watch of it."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vla_kit.errors import NonFiniteError, SettingError, ShapeError

__all__ = ["PPOLoss", "PPOTerms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOTerms:
    """The loss of a policy, and what to watch of it. Only `loss` has a graph.

    Args:
        loss: What to minimise: `policy + kl_weight * kl - entropy_weight * entropy`.
        policy: The clipped part alone.
        kl: Mean divergence from the reference policy, per transition; 0 where none was given.
        entropy: Mean entropy, per transition; 0 where none was given.
        clip_fraction: Share of ratios outside of the clip range.
        approximate_kl: Mean of `ratio - 1 - log(ratio)`, an estimate of how far the policy has moved from the one that
            acted, in nats (of a tempered density with "per_entry").
        ratio_mean: Mean ratio; its expectation is 1 for exact densities.
        ratio_smallest: Smallest ratio.
        ratio_largest: Largest ratio.
    """

    loss: Float[Tensor, ""]
    policy: Float[Tensor, ""]
    kl: Float[Tensor, ""]
    entropy: Float[Tensor, ""]
    clip_fraction: Float[Tensor, ""]
    approximate_kl: Float[Tensor, ""]
    ratio_mean: Float[Tensor, ""]
    ratio_smallest: Float[Tensor, ""]
    ratio_largest: Float[Tensor, ""]


class PPOLoss:
    """`-min(ratio * advantage, clip(ratio, 1 - clip, 1 + clip) * advantage)`, one ratio per chunk and transition.

    Log-probabilities are sums over all entries of a chunk, so a ratio is that of densities in as many dimensions as a
    chunk has entries, and small changes of each add up. With `ratio="per_entry"` the difference of the
    log-probabilities is divided by the number of entries: the ratio is the geometric mean of the entries' ratios,
    chunks of few and of many entries are clipped alike, and the loss follows a tempered density, not the exact one.

    Chunks with several transitions have a ratio each, all with the advantage of the chunk. For the ratio of the whole
    path, pass `log_prob.sum(1, keepdim=True)` for both.

    Args:
        clip: Half the width of the range in which ratios count, in (0, 1).
        ratio: "exact" or "per_entry", see above.
        kl_weight: Weight of the divergence from a reference policy, at least 0.
        entropy_weight: Weight of the entropy, at least 0.

    Raises:
        SettingError: If a value is out of range.

    Examples:
        A ratio of 1.5 counts as 1.2 for a good chunk, and in full for a bad one:

        >>> import torch
        >>> log_prob = torch.tensor([[1.5], [1.5]]).log()
        >>> terms = PPOLoss()(log_prob, torch.zeros(2, 1), torch.tensor([1.0, -1.0]))
        >>> round(terms.loss.item(), 4)  # (-1.2 + 1.5) / 2
        0.15

    Source:
        Schulman et al., arXiv 1707.06347, equation 7. Qwen-VLA, arXiv 2605.30280, section 4.2: 0.2, at the level of
        chunks. It names neither KL nor entropy; RLinf's weights are 0, and 0.005 for the entropy of learned noise.
    """

    def __init__(
        self,
        *,
        clip: float = 0.2,
        ratio: Literal["exact", "per_entry"] = "exact",
        kl_weight: float = 0.0,
        entropy_weight: float = 0.0,
    ) -> None:
        if not 0 < clip < 1:
            raise SettingError(f"clip must lie between 0 and 1, got {clip}. The paper's is 0.2.")
        if ratio not in ("exact", "per_entry"):
            raise SettingError(f"ratio must be 'exact' or 'per_entry', got {ratio!r}. Densities are 'exact'.")
        for name, weight in (("kl_weight", kl_weight), ("entropy_weight", entropy_weight)):
            if not (math.isfinite(weight) and weight >= 0):
                raise SettingError(f"{name} must be at least 0 and finite, got {weight}. Use 0 to drop the part.")
        self.clip = clip
        self.ratio: Literal["exact", "per_entry"] = ratio
        self.kl_weight = kl_weight
        self.entropy_weight = entropy_weight

    def __repr__(self) -> str:
        return (
            f"PPOLoss(clip={self.clip}, ratio={self.ratio!r}, kl_weight={self.kl_weight}, "
            f"entropy_weight={self.entropy_weight})"
        )

    def __call__(
        self,
        log_prob: Float[Tensor, "batch transition"],
        old_log_prob: Float[Tensor, "batch transition"],
        advantages: Float[Tensor, " batch"],
        *,
        entries: Int[Tensor, " batch"] | None = None,
        kl: Float[Tensor, "batch transition"] | None = None,
        entropy: Float[Tensor, "batch transition"] | None = None,
    ) -> PPOTerms:
        """Loss of a minibatch of chunks.

        Args:
            log_prob: Of the stored transitions, under the weights that are trained.
            old_log_prob: The same under the weights that acted.
            advantages: Of each chunk, normalised.
            entries: Number of real entries of each chunk, `mask.sum((1, 2))`; for "per_entry" alone.
            kl: Divergence from the reference policy; where `kl_weight` is above 0.
            entropy: Entropy of the transitions; where `entropy_weight` is above 0.

        Raises:
            SettingError: If a part is missing that the settings need.
            ShapeError: If shapes differ.
            NonFiniteError: If an advantage, a log-probability or a ratio is inf or NaN.
        """
        for name, part in (("old_log_prob", old_log_prob), ("kl", kl), ("entropy", entropy)):
            if part is not None and part.shape != log_prob.shape:
                raise ShapeError(
                    f"{name} must have the shape of log_prob {tuple(log_prob.shape)}, got {tuple(part.shape)}. "
                    "Give one entry per chunk and stored transition."
                )
        for name, rows in (("advantages", advantages), ("entries", entries)):
            if rows is not None and rows.shape != log_prob.shape[:1]:
                raise ShapeError(
                    f"{name} must have the shape {tuple(log_prob.shape[:1])}, got {tuple(rows.shape)}. "
                    "Give one entry per chunk."
                )
        for name, given, weight in (("kl", kl, self.kl_weight), ("entropy", entropy, self.entropy_weight)):
            if given is None and weight > 0:
                raise SettingError(f"{name} must be given when {name}_weight is {weight}, got None. Pass it, or use 0.")
        difference = log_prob - old_log_prob.detach()
        if self.ratio == "per_entry":
            if entries is None:
                raise SettingError("entries must be given for ratio 'per_entry', got None. Pass mask.sum((1, 2)).")
            difference = difference / entries.clamp(min=1)[:, None]
        ratio = difference.exp()
        self._refuse_non_finite(advantages=advantages, log_prob=log_prob, old_log_prob=old_log_prob, ratio=ratio)
        gain = advantages.detach()[:, None]
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        policy = -torch.minimum(ratio * gain, clipped * gain).mean()
        nothing = torch.zeros_like(policy.detach())
        kl_mean = nothing if kl is None else kl.mean()
        entropy_mean = nothing if entropy is None else entropy.mean()
        loss = policy
        if self.kl_weight > 0:
            loss = loss + self.kl_weight * kl_mean
        if self.entropy_weight > 0:
            loss = loss - self.entropy_weight * entropy_mean
        seen, moved = ratio.detach(), difference.detach()
        return PPOTerms(
            loss=loss,
            policy=policy.detach(),
            kl=kl_mean.detach(),
            entropy=entropy_mean.detach(),
            clip_fraction=((seen - 1).abs() > self.clip).to(seen.dtype).mean(),
            approximate_kl=(moved.expm1() - moved).mean(),
            ratio_mean=seen.mean(),
            ratio_smallest=seen.amin(),
            ratio_largest=seen.amax(),
        )

    def _refuse_non_finite(self, **parts: Tensor) -> None:
        for name, part in parts.items():
            if not bool(part.isfinite().all()):
                bad = int((~part.isfinite()).sum())
                raise NonFiniteError(
                    f"{name} must be finite, got {bad} of {part.numel()} entries inf or NaN. "
                    "Lower the policy's learning rate or raise the sampler's noise if it came during training."
                )
