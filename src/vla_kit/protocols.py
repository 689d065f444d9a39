"""The contracts between parts: what a backbone gives, what a velocity field takes.

A part satisfies a contract by its methods; nothing is inherited.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int, UInt8
from torch import Generator, Tensor

__all__ = [
    "Backbone",
    "Context",
    "Conversation",
    "Message",
    "Observation",
    "Picture",
    "TimeSampler",
    "VelocityField",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a policy may see at one instant.

    Args:
        prompt: The whole text: embodiment sentence and instruction, as `EmbodimentPrompter` writes it.
        views: View tag -> RGB image, uint8 in [0, 255], in the order in which they enter the sequence. Several frames
            of a view, a history, are stacked, oldest first and the present last. Empty for text alone (T2A). Absent
            cameras and frames are left out, never filled with black.
        frame_rate_hz: Frames per second of views with several frames; None where nobody needs it.
    """

    prompt: str
    views: Mapping[str, UInt8[Tensor, "*frame 3 height image_width"]]
    frame_rate_hz: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image or a video within a message.

    Args:
        pixels: RGB, uint8 in [0, 255]: an image, or the frames of a video, oldest first.
        view: Tag of the camera, whose boundary tokens then stand around the picture; None for a picture of no camera.
        instant: Place in time among the pictures of a message, 0 for the oldest; its frame tag then stands before the
            first picture of the instant. None for pictures without an order in time.
        rate_hz: Frames per second of a video; None for an image.
    """

    pixels: UInt8[Tensor, "*frame 3 height image_width"]
    view: str | None = None
    instant: int | None = None
    rate_hz: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation.

    Args:
        role: Who speaks.
        content: Text and pictures in the order in which they are read; nothing is put between them.
    """

    role: Literal["system", "user", "assistant"]
    content: tuple[str | Picture, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What a vision-language model reads and answers. The turns of the assistant are what it learns to say.

    Args:
        messages: At least one, in order; a system message, if any, comes first.
    """

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a backbone knows about a batch of observations: the tokens that condition the action head.

    Args:
        hidden: Token states, of the layer that feeds the head.
        mask: True where a token is real. Whatever stands in a padded token changes nothing.
        position_ids: Rotary positions on the axes (time, height, width); text has three equal entries.
        logits: Next-token logits where the caller asked for them.
        language_loss: Mean next-token loss of the labelled tokens [nat], where the inputs hold labels; 0 with a graph
            where they hold them and none is to be learned.
        embodiments: Robot of each sample, for heads that have parts for single robots; the caller of a backbone adds
            it with `dataclasses.replace`. Empty where nobody needs it.
        state: Normalised state of each robot, for heads that read it; None where nobody needs it.
        state_mask: True where an entry of the state is real.
    """

    hidden: Float[Tensor, "batch token width"]
    mask: Bool[Tensor, "batch token"]
    position_ids: Int[Tensor, "3 batch token"]
    logits: Float[Tensor, "batch token vocabulary"] | None = None
    language_loss: Float[Tensor, ""] | None = None
    embodiments: tuple[str, ...] = ()
    state: Float[Tensor, "batch channel"] | None = None
    state_mask: Bool[Tensor, "batch channel"] | None = None

    def leading(self, samples: int, *, tokens: int) -> "Context":
        """The first samples, as far as their tokens go: what a head needs where robots stand before conversations.

        Args:
            samples: How many; `embodiments` and states are those of these alone already and stay as they are.
            tokens: Longest of them [token]; what lies beyond must be padding.
        """
        return replace(
            self,
            hidden=self.hidden[:samples, :tokens],
            mask=self.mask[:samples, :tokens],
            position_ids=self.position_ids[:, :samples, :tokens],
            logits=None if self.logits is None else self.logits[:samples, :tokens],
        )


@runtime_checkable
class Backbone(Protocol):
    """Observations in, context out.

    `prepare` is pure preprocessing (tokens, patches): it runs in data workers and returns CPU tensors whose first
    axis need not be the batch. Calling the backbone runs the network. The split lets a data loader overlap the two.

    A backbone without a language head refuses conversations and labels.
    """

    @property
    def width(self) -> int:
        """Features of one context token."""
        ...

    def prepare(
        self, observations: Sequence[Observation | Conversation], *, with_labels: bool = False
    ) -> dict[str, Tensor]:
        """Turn observations, conversations or both into the tensors that `__call__` takes.

        `with_labels` adds `labels`: the answers of the conversations, and nothing of the observations. Every batch of a
        run that learns language asks for them, also one without a conversation, so that all processes do the same work.
        """
        ...

    def __call__(self, inputs: Mapping[str, Tensor], *, with_logits: bool = False) -> Context:
        """Run the network; `with_logits` asks for next-token logits too, `labels` among the inputs for their loss."""
        ...


@runtime_checkable
class VelocityField(Protocol):
    """The one thing that solvers and losses know of an action head."""

    def __call__(
        self,
        noisy_actions: Float[Tensor, "batch_draw horizon channel"],
        time: Float[Tensor, " batch_draw"] | Float[Tensor, "batch_draw horizon"],
        context: Context,
        mask: Bool[Tensor, "batch_draw horizon channel"],
    ) -> Float[Tensor, "batch_draw horizon channel"]:
        """Velocity `noise - action` at `time` (0 = action, 1 = noise); exactly 0 where `mask` is False.

        Solvers give one time per chunk. A time per step comes from training with known beginnings and `CleanPrefix`
        alone; a field that is used with neither need not take it.

        The first axis is `(batch draw)`, sample-major: a whole multiple of the context's batch, entries
        `i * draws .. (i + 1) * draws` belonging to context `i`.
        """
        ...


@runtime_checkable
class TimeSampler(Protocol):
    """Draws flow times in [0, 1]; 0 is the clean action and 1 is noise."""

    def __call__(self, count: int, *, like: Tensor, generator: Generator | None = None) -> Float[Tensor, " count"]:
        """Draw `count` times with the dtype and device of `like`."""
        ...
