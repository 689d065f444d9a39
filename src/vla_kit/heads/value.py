"""What a state is worth: the critic of reinforcement learning."""

from jaxtyping import Float
from torch import Tensor, nn

from vla_kit.errors import SettingError
from vla_kit.heads.conditioned import check_context
from vla_kit.heads.pooling import mean_token
from vla_kit.protocols import Context

__all__ = ["ValueHead"]


class ValueHead(nn.Module):
    """One number per sample: a linear layer on the mean of all real tokens of the backbone.

    No gradient reaches the backbone, so that the critic cannot disturb what the policy sees. A new head answers 0.

    Args:
        context_width: Features of a context token, the backbone's `width`.

    Raises:
        SettingError: If `context_width` is below 1.

    Examples:
        >>> import torch
        >>> head = ValueHead(context_width=6)
        >>> context = Context(
        ...     hidden=torch.randn(2, 5, 6),
        ...     mask=torch.ones(2, 5, dtype=torch.bool),
        ...     position_ids=torch.arange(5).expand(3, 2, 5),
        ... )
        >>> head(context)
        tensor([0., 0.], grad_fn=<SelectBackward0>)

    Source:
        Qwen-VLA, arXiv 2605.30280, section 4.2: mean over all hidden states, a linear layer, stop-gradient. Its start
        is not given; 0 is ours.
    """

    def __init__(self, *, context_width: int) -> None:
        super().__init__()
        if context_width < 1:
            raise SettingError(f"context_width must be at least 1, got {context_width}. Use the backbone's width.")
        self.context_width = context_width
        self.readout = nn.Linear(context_width, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin anew: every state is worth 0."""
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def forward(self, context: Context) -> Float[Tensor, " batch"]:
        """Expected return of each sample.

        Args:
            context: Output of a backbone; padding may hold anything.

        Returns:
            Value, in the unit of the reward.

        Raises:
            ShapeError: If the context does not have `context_width` features, or its parts differ in their tokens.
            DtypeError: If its states are not floating point, or its mask is not bool.
        """
        check_context(context, self.context_width)
        pooled = mean_token(context).detach()
        value: Tensor = self.readout(pooled.to(self.readout.weight.dtype))
        return value[:, 0]
