"""States of sentences that a frozen backbone has read, kept on the disk."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vla_kit.backbones._speechless import observations_alone
from vla_kit.backbones._tensor_files import digest, precision, read_tensors, write_tensors
from vla_kit.backbones._wrapping import hide_in_state_dict
from vla_kit.errors import SettingError, ShapeError
from vla_kit.protocols import Backbone, Context, Conversation, Observation

__all__ = ["CachedTextBackbone"]

_END: Final = 0xFF  # a byte that no UTF-8 text holds
_STATES: Final = ("hidden", "position_ids")
_PLAIN: Final = (bool, int, float, str)


class CachedTextBackbone(nn.Module):
    """Stand in for a frozen backbone that reads text alone and run it once per prompt, not once per step.

    Satisfies `Backbone`, whatever the one inside is. A prompt is known by its words, the backbone by the digest of its
    weights and of the plain settings of its modules, so other weights, layers or precisions never meet. One file per
    prompt; several processes may share the folder. Prompts of a batch that are not there yet run together, so their
    states differ from those of another batch by what the order of summation makes of rounding; a run that goes on with
    the folder that it began with finds the very same numbers. The state dict is that of the backbone inside.

    For training text to action with `freeze: [backbone]`; `vla_kit.training.text_cache.TextCache` puts it there. Not
    with a sharded strategy, which divides the weights.

    Args:
        backbone: `Backbone` of any kind; frozen and in evaluation mode by the time it is called.
        folder: Made if absent. It grows with the number of prompts; delete it at will.

    Examples:
        >>> import tempfile
        >>> from vla_kit.backbones.tiny import tiny_qwen3_vl
        >>> plain = tiny_qwen3_vl(corpus=["push"], view_tags=[], hidden=32, vision_layers=1)
        >>> plain = plain.requires_grad_(False).eval()
        >>> seen = [Observation(prompt=text, views={}) for text in ("push", "push the cup", "push")]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     backbone = CachedTextBackbone(plain, folder=folder)
        ...     context = backbone(backbone.prepare(seen))
        ...     len(list(Path(folder).rglob("*.safetensors"))), torch.equal(context.hidden[0], context.hidden[2])
        (2, True)

    Source:
        Qwen-VLA, arXiv 2605.30280, sections 3.1 and 5.2.1: in text to action the backbone is frozen and sees no image.
        The paper does not say whether its states were kept.
    """

    def __init__(self, backbone: nn.Module, *, folder: str | Path) -> None:
        super().__init__()
        self.backbone = backbone
        self.folder = Path(folder)
        self._fingerprint: str | None = None
        hide_in_state_dict(self, "backbone")
        self.register_load_state_dict_pre_hook(_forget)

    @property
    def width(self) -> int:
        """Features of one context token."""
        return self._inside.width

    def prepare(
        self, observations: Sequence[Observation | Conversation], *, with_labels: bool = False
    ) -> dict[str, Tensor]:
        """The prompts; their tokens are made where a prompt is new.

        Args:
            observations: At least one, without views.
            with_labels: Refused, for there is no language head.

        Returns:
            `prompts` [batch, longest prompt], UTF-8 bytes.

        Raises:
            ShapeError: If there is no observation.
            SettingError: If one of them has a view.
        """
        observations = observations_alone(observations, with_labels=with_labels, backbone="CachedTextBackbone")
        if not observations:
            raise ShapeError("observations must hold at least one observation, got 0. Drop empty batches.")
        for index, observation in enumerate(observations):
            if observation.views:
                raise SettingError(
                    f"views must be left out where states of text are cached, got {list(observation.views)} in "
                    f"observation {index}. Leave TextCache out of stages with pictures."
                )
        texts = [list(observation.prompt.encode()) for observation in observations]
        longest = max(map(len, texts))
        return {"prompts": torch.tensor([text + [_END] * (longest - len(text)) for text in texts], dtype=torch.uint8)}

    def forward(self, inputs: Mapping[str, Tensor], *, with_logits: bool = False) -> Context:
        """Read states of prompts, and run the backbone for those that are new.

        Args:
            inputs: What `prepare` returned, on any device.
            with_logits: Run the backbone for all of them; logits are not kept.

        Returns:
            States, mask and positions, padded on the right.

        Raises:
            SettingError: If the backbone learns or is in training mode.
            DataError: If a file of the folder is broken.
        """
        prompts = [bytes(row).rstrip(bytes([_END])).decode() for row in inputs["prompts"].cpu().numpy()]
        if with_logits:
            return self._run(prompts, with_logits=True)
        self._check_still()
        device = next(self.backbone.parameters()).device
        files = {prompt: self._file(prompt, device) for prompt in prompts}
        known = {prompt: read_tensors(file, needed=_STATES) for prompt, file in files.items() if file.exists()}
        new = [prompt for prompt in files if prompt not in known]
        if new:
            with torch.no_grad():
                context = self._run(new)
            for row, prompt in enumerate(new):
                real = context.mask[row]
                states = {"hidden": context.hidden[row, real], "position_ids": context.position_ids[:, row, real].T}
                known[prompt] = {name: tensor.cpu() for name, tensor in states.items()}
                write_tensors(files[prompt], known[prompt])
        hidden = pad_sequence([known[prompt]["hidden"] for prompt in prompts], batch_first=True)
        positions = pad_sequence([known[prompt]["position_ids"] for prompt in prompts], batch_first=True)
        lengths = torch.tensor([len(known[prompt]["hidden"]) for prompt in prompts])
        mask = torch.arange(hidden.shape[1]) < lengths[:, None]
        return Context(
            hidden=hidden.to(device, non_blocking=True),
            mask=mask.to(device, non_blocking=True),
            position_ids=positions.permute(2, 0, 1).to(device, non_blocking=True),
        )

    @property
    def _inside(self) -> Backbone:
        return cast(Backbone, self.backbone)

    def _run(self, prompts: Sequence[str], *, with_logits: bool = False) -> Context:
        inputs = self._inside.prepare([Observation(prompt=prompt, views={}) for prompt in prompts])
        return self._inside(inputs, with_logits=with_logits)

    def _check_still(self) -> None:
        if any(parameter.requires_grad for parameter in self.backbone.parameters()):
            raise SettingError(
                "backbone must be frozen where its states are cached, got parameters that learn. "
                "Add backbone to model.freeze, or leave the cache out."
            )
        if any(module.training for module in self.backbone.modules()):
            raise SettingError(
                "backbone must be in evaluation mode where its states are cached, got training mode, in which dropout "
                "draws anew at every step. Add backbone to model.freeze, which keeps it so, or call eval()."
            )

    def _file(self, prompt: str, device: torch.device) -> Path:
        if self._fingerprint is None:
            tensors = [entry for entry in self.backbone.state_dict().values() if isinstance(entry, Tensor)]
            self._fingerprint = digest(*tensors, text=repr(_settings(self.backbone)))
        name = digest(text=f"{precision(device)} {prompt}")
        return self.folder / self._fingerprint / name[:2] / f"{name}.safetensors"

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self._fingerprint = None
        return cast(Self, super()._apply(fn, recurse))


def _settings(backbone: nn.Module) -> list[tuple[str, str, str, bool | int | float | str]]:
    """Name, class and plain attributes of every module: which layer answers, how many heads attend."""
    return [
        (name, type(module).__qualname__, key, value)
        for name, module in backbone.named_modules()
        for key, value in sorted(vars(module).items())
        if type(value) in _PLAIN and key != "training" and not key.startswith("_")
    ]


def _forget(module: Any, *_rest: Any) -> None:  # noqa: ANN401 (a hook of torch)
    module._fingerprint = None
