"""Samples to a batch: prompts built, images augmented, backbone inputs prepared, actions padded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from vla_kit.actions import MaskedActions
from vla_kit.data.conversations.sample import ConversationSample
from vla_kit.data.sample import Sample
from vla_kit.embodiment import StateScaler, write_prompts
from vla_kit.errors import SettingError, ShapeError
from vla_kit.protocols import Observation

__all__ = ["Batch", "Collate"]

_Augment = Callable[[UInt8[Tensor, "image 3 height image_width"]], UInt8[Tensor, "image 3 height image_width"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a training step takes. Lightning moves it with `to`, data loaders pin it with `pin_memory`.

    Robots stand first, conversations behind them; either may be missing. The backbone reads all of them at once.

    Args:
        embodiments: Robot of each sample that acts.
        instructions: What each robot was told.
        actions: Native actions, not normalised, padded to the common width, with the mask of what is real.
        sizes: Native channels of each sample.
        backbone_inputs: What `Backbone.prepare` made; the first axis need not be the batch.
        state: Normalised states, each a chunk of one step, padded to the common width; None where no state is read.
        datasets: Data set of each sample, conversations included; empty where nobody counts them.
        conversations: Samples that are conversations.
        context_tokens: Longest context of a robot [token], beyond which the head need not look; None where every sample
            is a robot's.

    Examples:
        >>> batch = Batch(embodiments=("arm",), instructions=("push",), sizes=(2,),
        ...     actions=MaskedActions.pad([torch.ones(3, 2)]), backbone_inputs={"ids": torch.zeros(1, 5)})
        >>> len(batch), batch.to("meta").backbone_inputs["ids"].device.type
        (1, 'meta')
    """

    embodiments: tuple[str, ...]
    instructions: tuple[str, ...]
    actions: MaskedActions
    sizes: tuple[int, ...]
    backbone_inputs: Mapping[str, Tensor]
    state: MaskedActions | None = None
    datasets: tuple[str, ...] = ()
    conversations: int = 0
    context_tokens: int | None = None

    def __len__(self) -> int:
        return len(self.embodiments) + self.conversations

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """Move every tensor; the text stays."""
        return replace(
            self,
            actions=self.actions.to(device, non_blocking=non_blocking),
            backbone_inputs={
                name: tensor.to(device, non_blocking=non_blocking) for name, tensor in self.backbone_inputs.items()
            },
            state=None if self.state is None else self.state.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> "Batch":
        """Copy every tensor to page-locked memory, from which it reaches a GPU without waiting."""
        return replace(
            self,
            actions=self.actions.pin_memory(),
            backbone_inputs={name: tensor.pin_memory() for name, tensor in self.backbone_inputs.items()},
            state=None if self.state is None else self.state.pin_memory(),
        )


class Collate:
    """Builds a `Batch` from samples and conversations; give it to a `DataLoader` as `collate_fn`.

    It runs in the data workers, so tokens and patches are ready when the model asks. The prompt comes from the same
    function that serving uses.

    Args:
        prepare: `Backbone.prepare` of the model's backbone; for a run that learns language with `with_labels=True`.
        prompter: `(embodiment, instruction) -> prompt`, an `EmbodimentPrompter`.
        channels: Common width of the actions.
        horizon: Common number of steps; that of the longest chunk in the batch where None.
        augment: Changes a uint8 stack of images of one view, each image on its own; nothing where None. Pictures of
            conversations stay as they are, for an answer may name their colours and places. Draws come
            from torch's generator, which a `DataLoader` seeds in every worker, and by which all frames of a history are
            changed alike.
        states: Scales the states of the samples for prompt and head; no state is used where None.
        announce: Number of actions that the prompt of a sample announces; that of the robot where None.
        augment_sample: Changes a whole sample, such as `HandMirror`, which exchanges left and right in pose, picture
            and words; before `augment`. Nothing where None.

    Raises:
        SettingError: If `channels` or `horizon` is below 1.
        ShapeError: (on call) If there are no samples, or augment changes the number of images.
        DataError: (on call) If `states` is given and a sample lacks the state of its robot.
        SettingError: (on call) If the backbone refuses a sample, such as one that is longer than its context; a note
            says which episode and frame, or which record, it is.

    Examples:
        >>> sample = Sample(embodiment="arm", instruction="push", views={}, actions=torch.ones(2, 3),
        ...     valid=torch.tensor([True, False]), dataset="demo", episode=0, frame=0)
        >>> def prepare(observations):
        ...     return {"length": torch.tensor([len(seen.prompt) for seen in observations])}
        >>> batch = Collate(prepare, prompter=lambda name, text: f"{name}: {text}", channels=4)([sample])
        >>> batch.backbone_inputs["length"], batch.actions.mask[0].int().tolist()
        (tensor([9]), [[1, 1, 1, 0], [0, 0, 0, 0]])

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.4: leading channels, zero padding, mask over steps and channels.
    """

    def __init__(
        self,
        prepare: Callable[[Sequence[Any]], Mapping[str, Tensor]],
        *,
        prompter: Callable[..., str],
        channels: int = 64,
        horizon: int | None = None,
        augment: _Augment | None = None,
        states: StateScaler | None = None,
        announce: Callable[[Sample], int] | None = None,
        augment_sample: Callable[[Sample], Sample] | None = None,
    ) -> None:
        for name, value in (("channels", channels), ("horizon", horizon)):
            if value is not None and value < 1:
                raise SettingError(f"{name} must be at least 1, got {value}. Give that of the largest robot.")
        self.prepare = prepare
        self.prompter = prompter
        self.channels = channels
        self.horizon = horizon
        self.augment = augment
        self.states = states
        self.announce = announce
        self.augment_sample = augment_sample

    def __call__(self, mixed: Sequence[Sample | ConversationSample]) -> Batch:
        """Collate samples of any embodiments, and conversations, in any order and proportion."""
        if len(mixed) == 0:
            raise ShapeError("samples must hold at least one sample, got none. Check the sampler of the data loader.")
        samples = [one for one in mixed if isinstance(one, Sample)]
        if self.augment_sample is not None:
            samples = [self.augment_sample(sample) for sample in samples]
        talks = [one for one in mixed if isinstance(one, ConversationSample)]
        views: list[dict[str, Tensor]] = [dict(sample.views) for sample in samples]
        if self.augment is not None:
            views = _augmented(views, self.augment)
        embodiments = tuple(sample.embodiment for sample in samples)
        instructions = tuple(sample.instruction for sample in samples)
        states = self.states(embodiments, [sample.state for sample in samples]) if self.states and samples else None
        counts = None if self.announce is None else [self.announce(sample) for sample in samples]
        prompts = write_prompts(self.prompter, embodiments, instructions, chunk_sizes=counts, states=states)
        observations: list[Any] = [
            Observation(prompt=prompt, views=seen, frame_rate_hz=sample.frame_rate_hz)
            for prompt, seen, sample in zip(prompts, views, samples, strict=True)
        ]
        inputs = self._prepared([*observations, *(one.conversation for one in talks)], [*samples, *talks])
        return Batch(
            embodiments=embodiments,
            instructions=instructions,
            actions=self._actions(samples),
            sizes=tuple(sample.size for sample in samples),
            backbone_inputs=inputs,
            state=states,
            datasets=(*(sample.dataset for sample in samples), *(talk.dataset for talk in talks)),
            conversations=len(talks),
            context_tokens=_longest(inputs["attention_mask"], len(samples)) if talks else None,
        )

    def _prepared(
        self, observations: Sequence[Any], sources: Sequence[Sample | ConversationSample]
    ) -> dict[str, Tensor]:
        """What the backbone makes of observations; where it refuses one, the error says whose that is."""
        try:
            return dict(self.prepare(observations))
        except SettingError as error:
            for number, (one, source) in enumerate(zip(observations, sources, strict=True)):
                try:
                    self.prepare([one])
                except SettingError:
                    error.add_note(f"Observation {number} is {_place(source)}. Leave it out of the data, or change it.")
                    break
            raise

    def _actions(self, samples: Sequence[Sample]) -> MaskedActions:
        if not samples:
            nothing = torch.zeros(0, self.horizon or 1, self.channels)
            return MaskedActions(nothing, nothing.bool())
        return MaskedActions.pad(
            [sample.actions for sample in samples],
            channels=self.channels,
            horizon=self.horizon,
            valid=[sample.real for sample in samples],
        )


def _place(source: Sample | ConversationSample) -> str:
    if isinstance(source, ConversationSample):
        return f"record {source.index} of {source.dataset}"
    return f"episode {source.episode}, frame {source.frame} of {source.dataset}"


def _longest(mask: Tensor, samples: int) -> int:
    """Tokens of the longest of the first samples; 1 where there is none, for no tensor likes to be empty."""
    return int(mask[:samples].sum(1).max()) if samples else 1


def _augmented(views: list[dict[str, Tensor]], augment: _Augment) -> list[dict[str, Tensor]]:
    """Augment all images of one view and size together, and all frames of a history with the same draws."""
    groups: dict[tuple[str, torch.Size], list[int]] = {}
    for index, seen in enumerate(views):
        for tag, image in seen.items():
            groups.setdefault((tag, image.shape), []).append(index)
    changed: list[dict[str, Tensor]] = [dict(seen) for seen in views]
    for (tag, _), members in groups.items():
        stack = torch.stack([views[index][tag] for index in members])
        if stack.ndim == 4:
            stack = _one_augmented(stack, augment)
        else:
            state, frames = torch.get_rng_state(), []
            for frame in stack.unbind(1):
                torch.set_rng_state(state)
                frames.append(_one_augmented(frame, augment))
            stack = torch.stack(frames, dim=1)
        for index, image in zip(members, stack, strict=True):
            changed[index][tag] = image
    return changed


def _one_augmented(images: Tensor, augment: _Augment) -> Tensor:
    changed = augment(images)
    if len(changed) != len(images):
        raise ShapeError(
            f"augment must return as many images as it got ({len(images)}), got {len(changed)}. "
            "Change each image on its own."
        )
    return changed
