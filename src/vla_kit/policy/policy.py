"""A trained model as a robot uses it: pictures and words in, native action chunks out."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from vla_kit.actions import EigengraspBasis, MaskedActions, QuantileNormalizer
from vla_kit.embodiment import EmbodimentPrompter, write_prompts
from vla_kit.errors import SettingError, ShapeError
from vla_kit.flow import GuidedPrefix
from vla_kit.policy.folder import read_policy, write_policy
from vla_kit.policy.observation import PolicyObservation, image_tensor, state_tensor
from vla_kit.policy.place import local_policy
from vla_kit.policy.prediction import Inpainting, Solver, draw_noise, predict_actions, read_context
from vla_kit.policy.real_time import ChunkPrefix, known_actions
from vla_kit.policy.states import state_scaler
from vla_kit.protocols import Backbone, Context, Observation

__all__ = ["Policy"]


class _Parts(Protocol):
    """What `Policy.from_module` reads of a training module."""

    @property
    def backbone(self) -> nn.Module: ...
    @property
    def head(self) -> nn.Module: ...
    @property
    def prompter(self) -> EmbodimentPrompter: ...
    @property
    def normalizer(self) -> QuantileNormalizer: ...
    @property
    def state_normalizer(self) -> QuantileNormalizer | None: ...
    @property
    def solver(self) -> Solver: ...
    @property
    def channels(self) -> int: ...


class Policy:
    """Answers observations with chunks of native actions, in the units and at the size of each robot.

    Robots of different embodiments share one batch. Backbone and head are put into evaluation mode.

    Args:
        backbone: Satisfies `Backbone`.
        head: Satisfies `VelocityField`.
        prompter: Writes the prompt, as in training.
        normalizer: Statistics of every robot that may ask.
        solver: Integrates the velocity.
        channels: Padded action width of the head.
        temperature: Factor on the noise, at least 0; 1 is the trained distribution.
        state_normalizer: Statistics of the states, where prompter or head reads them; None for a policy without states.
        inpainting: How a chunk goes on from the one that is being carried out; `GuidedPrefix()` where None.
        hand_basis: Eigengrasps of human hands, for `decode_hands`; None for a policy without hands.

    Raises:
        SettingError: If `channels` is below 1, `temperature` is negative or not finite, or `state_normalizer` does not
            fit prompter and head.

    Examples:
        >>> from vla_kit.actions import ActionSpace, ChannelGroup, QuantileStats
        >>> from vla_kit.backbones.tiny import tiny_qwen3_vl
        >>> from vla_kit.embodiment import EmbodimentSpec
        >>> from vla_kit.flow import Euler
        >>> from vla_kit.heads import DiTHead
        >>> space = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=3)])
        >>> arm = EmbodimentSpec("arm", robot_tag="Arm", rate_hz=10, chunk_size=5, action_space=space, arms="single")
        >>> backbone = tiny_qwen3_vl(corpus=["push"], view_tags=["cam_high"], image_size=32, hidden=32)
        >>> stats = QuantileStats(q01=torch.zeros(3), q99=torch.ones(3))
        >>> policy = Policy(
        ...     backbone,
        ...     head=DiTHead(context_width=32, channels=8, width=16, depth=1, num_heads=2, mlp_hidden=16),
        ...     prompter=EmbodimentPrompter([arm]),
        ...     normalizer=QuantileNormalizer({"arm": stats}, spaces={"arm": space}),
        ...     solver=Euler(steps=2),
        ...     channels=8,
        ... )
        >>> picture = np.zeros((32, 32, 3), dtype=np.uint8)
        >>> seen = PolicyObservation(embodiment="arm", instruction="push", views={"cam_high": picture})
        >>> [chunk.shape for chunk in policy.act([seen])]
        [(5, 3)]

    Source:
        Qwen-VLA, arXiv 2605.30280, sections 2.3 to 2.5: one policy for all robots, told apart by the prompt.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        head: nn.Module,
        prompter: EmbodimentPrompter,
        normalizer: QuantileNormalizer,
        solver: Solver,
        channels: int = 64,
        temperature: float = 1.0,
        state_normalizer: QuantileNormalizer | None = None,
        inpainting: Inpainting | None = None,
        hand_basis: EigengraspBasis | None = None,
    ) -> None:
        if channels < 1:
            raise SettingError(f"channels must be at least 1, got {channels}. Use the head's.")
        if not 0 <= temperature < math.inf:
            raise SettingError(f"temperature must be at least 0 and finite, got {temperature}. Use 1.0.")
        self.backbone = cast(Backbone, backbone.eval())
        self.head = head.eval()
        self.prompter = prompter
        self.normalizer = normalizer
        self.solver = solver
        self.channels = channels
        self.temperature = temperature
        self.states = state_scaler(state_normalizer, prompter=prompter, head=head, channels=channels)
        self.inpainting = GuidedPrefix() if inpainting is None else inpainting
        self.hand_basis = hand_basis

    @classmethod
    def from_module(cls, module: _Parts, *, temperature: float = 1.0, inpainting: Inpainting | None = None) -> Self:
        """Take the parts of a training module, such as a `VLAModule` loaded from a checkpoint.

        Args:
            module: Has `backbone`, `head`, `prompter`, `normalizer`, `state_normalizer`, `solver` and `channels`, and
                `hand_basis` where it has hands; the parts are shared.
            temperature: As in the constructor.
            inpainting: As in the constructor.

        Returns:
            The policy.
        """
        return cls(
            module.backbone,
            head=module.head,
            prompter=module.prompter,
            normalizer=module.normalizer,
            solver=module.solver,
            channels=module.channels,
            temperature=temperature,
            state_normalizer=module.state_normalizer,
            inpainting=inpainting,
            hand_basis=getattr(module, "hand_basis", None),
        )

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str | torch.device = "cpu",
        temperature: float | None = None,
        revision: str | None = None,
        allowed: Sequence[type] = (),
    ) -> Self:
        """Load what `save` wrote, from a folder or from the hub.

        Nothing is unpickled, and no code runs but that of the installed libraries: the folder may name the parts of
        vla_kit, and classes that you pass. Fetched are the files of a policy alone.

        Args:
            folder: Folder, or hub id `owner/name` where there is no such folder.
            device: Where the policy runs.
            temperature: Factor on the noise; the saved one where None.
            revision: Branch, tag or commit of a hub id.
            allowed: Your own classes that the folder may name, such as a head.

        Returns:
            The policy; it answers with the same bits on the same kind of machine.

        Raises:
            CheckpointError: If a file is missing, broken, of another format, or does not fit the others; if a class is
                not allowed; or if the hub has no such policy.
            SettingError: If a part refuses its settings, or the device is not there.
            StatisticsError: If statistics and robots differ in size.
        """
        parts = read_policy(local_policy(folder, revision=revision), device=device, allowed=allowed)
        return cls(**(parts if temperature is None else parts | {"temperature": temperature}))

    def save(self, folder: str | Path) -> None:
        """Write the policy into one folder: settings, robots and statistics as text, weights as safetensors, a card.

        The folder is whole or not there. Robots without statistics stay in it as words, and statistics of robots
        without words, which cannot act, are left out.

        Args:
            folder: Not there yet, or empty.

        Raises:
            SettingError: If the folder has content, or a part cannot say how it is built again: it has to keep the
                arguments of its constructor as attributes, or give them by a method `init_args`.
            CheckpointError: If the backbone has LoRA adapters; call `merge_lora` first.
        """
        write_policy(
            folder,
            backbone=cast(nn.Module, self.backbone),
            head=self.head,
            prompter=self.prompter,
            normalizer=self.normalizer,
            solver=self.solver,
            channels=self.channels,
            temperature=self.temperature,
            inpainting=self.inpainting,
            state_normalizer=self.state_normalizer,
            hand_basis=self.hand_basis,
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        message: str = "Upload a policy of vla-kit",
    ) -> str:
        """Save the policy and upload it to the Hugging Face hub, where `load` finds it under its id.

        Args:
            repo_id: `owner/name`; the repository is made where it is missing.
            private: Whether a new repository is private; the owner's default where None.
            token: Token with the right to write; that of `hf auth login` where None.
            message: Message of the commit.

        Returns:
            Address of the commit.

        Raises:
            CheckpointError: If the hub refuses.
            SettingError: As in `save`.
        """
        from vla_kit.policy.hub import upload_policy  # the hub's client loads when it is asked

        with tempfile.TemporaryDirectory() as temporary:
            self.save(Path(temporary) / "policy")
            return upload_policy(Path(temporary) / "policy", repo_id, private=private, token=token, message=message)

    @property
    def state_normalizer(self) -> QuantileNormalizer | None:
        """Statistics of the states; None for a policy that reads none."""
        return None if self.states is None else self.states.normalizer

    @property
    def device(self) -> torch.device:
        """Where the head is."""
        return next(self.head.parameters()).device

    def act(
        self,
        observations: Sequence[PolicyObservation],
        *,
        generator: Generator | Sequence[Generator] | None = None,
        prefixes: Sequence[ChunkPrefix | None] | None = None,
    ) -> list[Float[np.ndarray, "step size"]]:
        """Answer a batch of observations.

        Args:
            observations: At least one; robots, views and picture sizes may differ.
            generator: Source of the noise on the policy's device, or one CPU generator per observation. With the
                latter an answer does not depend on who shares the batch, beyond rounding.
            prefixes: Per observation what the robot carries out meanwhile, or None; see `RealTimeExecutor`. The chunk
                goes on from there, and its first `delay` actions are those of the prefix.

        Returns:
            Per observation, float32 actions of shape (chunk size of the robot, channels of the robot), native units.

        Raises:
            EmbodimentError: If a robot is unknown to the prompter.
            MissingStatisticsError: If a robot has no statistics.
            ShapeError: If there is no observation, a picture or a state has the wrong shape, or a prefix does not fit
                its robot.
            DataError: If a state is missing that the policy reads, or is NaN or infinite.
            DtypeError: If a picture is not uint8.
        """
        if len(observations) == 0:
            raise ShapeError("observations must hold at least one observation, got none. Skip the call instead.")
        names = [observation.embodiment for observation in observations]
        mask, device = self.mask(names), self.device
        known = None if prefixes is None else known_actions(prefixes, mask)
        if known is None:
            with torch.inference_mode():
                return self._answer(observations, names, mask.to(device), self.solver, generator)
        with torch.no_grad():  # guidance asks for gradients, which inference mode forbids
            before, delay = self.normalizer.normalize(known[0].to(device), names, clip=False), known[1].to(device)
            solver = self.inpainting(self.solver, known=before.values, mask=before.mask, delay=delay)
            chunks = self._answer(observations, names, mask.to(device), solver, generator)
        for chunk, prefix in zip(chunks, prefixes or (), strict=True):
            if prefix is not None:
                chunk[: prefix.delay] = prefix.actions[: prefix.delay]
        return chunks

    def prepare(self, observations: Sequence[PolicyObservation]) -> tuple[dict[str, Tensor], MaskedActions | None]:
        """Everything before the networks: prompts, tokens and pictures, on the CPU.

        Args:
            observations: At least one.

        Returns:
            What the backbone takes, and the scaled states of a policy that reads them.

        Raises:
            Exception: As in `act`.
        """
        names = [observation.embodiment for observation in observations]
        states = None if self.states is None else self.states(names, [state_tensor(one.state) for one in observations])
        prompts = write_prompts(self.prompter, names, [one.instruction for one in observations], states=states)
        prepared = self.backbone.prepare(
            [_shown(one, prompt) for one, prompt in zip(observations, prompts, strict=True)]
        )
        return prepared, states

    def _answer(
        self,
        observations: Sequence[PolicyObservation],
        names: Sequence[str],
        mask: Bool[Tensor, "batch horizon channel"],
        solver: Solver,
        generator: Generator | Sequence[Generator] | None,
    ) -> list[Float[np.ndarray, "step size"]]:
        shared = generator if isinstance(generator, Generator) else None
        own = None if generator is None or isinstance(generator, Generator) else generator
        prepared, state = self._prepared_here(observations)
        native = predict_actions(
            prepared,
            mask,
            names,
            backbone=self.backbone,
            head=self.head,
            normalizer=self.normalizer,
            solver=solver,
            state=state,
            noise=None if own is None else draw_noise(mask, own),
            generator=shared,
            temperature=self.temperature,
        )
        return [chunk.float().cpu().numpy() for chunk in native.cut()]

    def read(self, observations: Sequence[PolicyObservation]) -> Context:
        """What the backbone makes of observations, as the head is given it; gradients flow.

        Args:
            observations: As for `act`.

        Returns:
            The context, with robots and states.

        Raises:
            EmbodimentError: If a robot is unknown to the prompter.
            ShapeError: If there is no observation, or a picture or a state has the wrong shape.
            DataError: If a state is missing that the policy reads, or is NaN or infinite.
            DtypeError: If a picture is not uint8.
        """
        if len(observations) == 0:
            raise ShapeError("observations must hold at least one observation, got none. Skip the call instead.")
        prepared, state = self._prepared_here(observations)
        return read_context(prepared, [one.embodiment for one in observations], backbone=self.backbone, state=state)

    def _prepared_here(
        self, observations: Sequence[PolicyObservation]
    ) -> tuple[dict[str, Tensor], MaskedActions | None]:
        """Inputs of the backbone and states of the robots, on the policy's device."""
        prepared, states = self.prepare(observations)
        inputs = {name: tensor.to(self.device) for name, tensor in prepared.items()}
        return inputs, None if states is None else states.to(self.device)

    def mask(self, embodiments: Sequence[str]) -> Bool[Tensor, "batch horizon channel"]:
        """Which entries of a padded chunk each robot has.

        Args:
            embodiments: Name of the robot of each sample.

        Returns:
            True where an action entry is real, on the CPU.

        Raises:
            EmbodimentError: If a robot is unknown to the prompter.
            ShapeError: If a robot has more channels than the head.
        """
        specs = [self.prompter.spec(name) for name in embodiments]
        largest = max(spec.action_space.size for spec in specs)
        if largest > self.channels:
            raise ShapeError(
                f"channels must be at least the size of every robot's actions, got {self.channels} and a robot of "
                f"{largest}. Build the head and the policy wider."
            )
        mask = torch.zeros(len(specs), max(spec.chunk_size for spec in specs), self.channels, dtype=torch.bool)
        for row, spec in zip(mask, specs, strict=True):
            row[: spec.chunk_size, : spec.action_space.size] = True
        return mask


def _shown(observation: PolicyObservation, prompt: str) -> Observation:
    return Observation(
        prompt=prompt,
        views={tag: image_tensor(image, tag=tag) for tag, image in observation.views.items()},
        frame_rate_hz=observation.frame_rate_hz,
    )
