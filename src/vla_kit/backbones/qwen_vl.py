"""Qwen2.5-VL, Qwen3-VL and Qwen3.5 of transformers as the backbone of a policy."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, Self

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
)

from vla_kit.backbones._pretrained import (
    apply_keeping_rotary,
    check_layer,
    load_model,
    random_model,
    reading,
    refuse_adapters,
    set_gradient_checkpointing,
)
from vla_kit.backbones.frames import HistoryLayout
from vla_kit.backbones.packing import PerSample, packed_masks
from vla_kit.backbones.qwen_inputs import QwenInputs
from vla_kit.backbones.vocabulary import tokenizer_from_tensor, tokenizer_to_tensor
from vla_kit.embodiment.views import view_tokens
from vla_kit.errors import CheckpointError, SettingError
from vla_kit.losses import projected_next_token_loss
from vla_kit.protocols import Context, Conversation, Observation

__all__ = ["QwenVLBackbone", "add_view_tokens"]


def add_view_tokens(model: PreTrainedModel, tokenizer: Tokenizer, view_tags: Sequence[str]) -> None:
    """Give model and tokenizer the boundary tokens of view tags, both in place.

    Tokens that the vocabulary has stay as they are. A new one follows the last known id, and its embedding starts as
    the mean of the known embeddings, so that a pretrained model is disturbed little. Rows are added to the embedding
    only where it has no spare ones.

    Args:
        model: Image-text-to-text model, whose embedding may grow.
        tokenizer: Its vocabulary, which grows.
        view_tags: Tags such as `ego` or `cam_left_wrist`.

    Examples:
        >>> from vla_kit.backbones.tiny import tiny_qwen3_vl
        >>> backbone = tiny_qwen3_vl(corpus=["pick up the cup"], view_tags=["ego"], hidden=32)
        >>> add_view_tokens(backbone.model, backbone.tokenizer, ["wrist"])
        >>> backbone.tokenizer.token_to_id("<|wrist_start|>") is not None
        True

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1. The paper is silent on whether the tokens are new vocabulary
        entries and on their first embedding; both are our choice.
    """
    known = tokenizer.get_vocab_size()
    tokens = [token for tag in view_tags for token in view_tokens(tag)]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    size = tokenizer.get_vocab_size()
    if size == known:
        return
    if size > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(size, mean_resizing=False)
    with torch.no_grad():
        for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
            embedding.weight[known:size] = embedding.weight[:known].mean(dim=0)


_FAMILIES = ("qwen2_5_vl", "qwen3_vl", "qwen3_5")  # their mixtures of experts begin alike


class QwenVLBackbone(nn.Module):
    """A Qwen vision-language model as `Backbone`: observations in, states of its last layer out.

    The model is transformers' own, unchanged, and runs causally over the views and the prompt. The vocabulary travels
    in the state dict, so a checkpoint brings the tokens that it was trained with. Rotary frequencies stay in float32
    when the module is cast.

    Args:
        model: Qwen2.5-VL, Qwen3-VL or Qwen3.5 model of transformers. Other families go into `ImageTextBackbone`.
        tokenizer: Its vocabulary, with the tokens of the view tags (see `add_view_tokens`); copied.
        image_size: Side to which every image is resized, square [pixel]; a multiple of patch size times merge size.
            `None` keeps the aspect ratio and lets the image processor choose, as Qwen does.
        image_processor: Normalisation and limits of the image size; `None` takes those of the family, with the patch
            sizes of `model`.
        layer: Which states feed the action head, counted from the end: -1 the last layer after the final norm,
            -2 the output of the layer before it, and so on.
        gradient_checkpointing: Whether layers compute their activations again on the way back in training instead of
            keeping them: less memory, more time, the same gradients.
        history: How a view of several frames enters the sequence, see `QwenInputs`: `images`, each frame an image
            behind a frame tag, or `video`, through the model's own temporal patches.
        chat_template: Jinja template that writes conversations; `None` refuses them. `from_pretrained` takes that of
            the model.
        row_tokens: Pack samples into rows of at most so many tokens instead of padding each, for batches of texts of
            different lengths. What the samples get is what they get alone.

    Raises:
        SettingError: If `model` is of another family, `layer` is no layer of it, `image_size` does not fit the patches,
            or `tokenizer` has more tokens than the model has embeddings.
        CheckpointError: If `tokenizer` lacks the vision tokens of the model.

    Examples:
        >>> import torch
        >>> from vla_kit.backbones.tiny import tiny_qwen3_vl
        >>> from vla_kit.protocols import Observation
        >>> backbone = tiny_qwen3_vl(corpus=["pick up the cup"], view_tags=["ego"], image_size=32, hidden=32)
        >>> image = torch.zeros(3, 32, 32, dtype=torch.uint8)
        >>> context = backbone(backbone.prepare([Observation(prompt="pick up the cup", views={"ego": image})]))
        >>> context.hidden.shape[-1], context.position_ids.shape[0]
        (32, 3)

    Source:
        Qwen-VLA, arXiv 2605.30280, sections 2.2 and 3.2.1 (Qwen3.5-4B). The paper does not say which layer feeds the
        action head; one linear projection suggests one layer, and the last is the default here.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        tokenizer: Tokenizer,
        image_size: int | None = None,
        image_processor: Qwen2VLImageProcessor | None = None,
        layer: int = -1,
        gradient_checkpointing: bool = False,
        history: HistoryLayout = "images",
        chat_template: str | None = None,
        row_tokens: int | None = None,
    ) -> None:
        super().__init__()
        family = model.config.model_type
        if not family.startswith(_FAMILIES):
            raise SettingError(
                f"model must be of a family in {list(_FAMILIES)}, got {family!r}. "
                "Use vla_kit.backbones.image_text.ImageTextBackbone, which takes any."
            )
        check_layer(layer, model.config.text_config.num_hidden_layers)
        if gradient_checkpointing:
            set_gradient_checkpointing(model)
        self.model = model
        self.layer = layer
        vision = model.config.vision_config
        if image_processor is None:
            normalisation = {} if family == "qwen2_5_vl" else {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
            image_processor = Qwen2VLImageProcessor(
                patch_size=vision.patch_size,
                merge_size=vision.spatial_merge_size,
                temporal_patch_size=vision.temporal_patch_size,
                size={"shortest_edge": 256 * 256, "longest_edge": 4096 * 4096},
                **normalisation,
            )
        self._check_size(tokenizer, SettingError)
        self.inputs = QwenInputs(
            Tokenizer.from_str(tokenizer.to_str()),
            image_processor=image_processor,
            vision_token_ids=(
                model.config.vision_start_token_id,
                model.config.image_token_id,
                model.config.vision_end_token_id,
            ),
            context_length=model.config.text_config.max_position_embeddings,
            image_size=image_size,
            history=history,
            video_token_id=model.config.video_token_id,
            tokens_per_second=vision.tokens_per_second if family == "qwen2_5_vl" else None,
            chat_template=chat_template,
            row_tokens=row_tokens,
        )
        if row_tokens is not None:
            for layer_part in model.model.language_model.layers:
                if hasattr(layer_part, "linear_attn"):
                    layer_part.linear_attn = PerSample(layer_part.linear_attn)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        view_tags: Sequence[str],
        image_size: int | None = None,
        layer: int = -1,
        gradient_checkpointing: bool = False,
        history: HistoryLayout = "images",
        row_tokens: int | None = None,
        dtype: Literal["float32", "bfloat16", "float16", "auto"] = "auto",
        attention: str = "sdpa",
        revision: str | None = None,
    ) -> "QwenVLBackbone":
        """Load weights, tokenizer and image processor.

        Args:
            source: Folder that `save_pretrained` wrote, or a hub id such as `Qwen/Qwen3.5-4B`.
            view_tags: Tags of all views that will ever be given; their tokens are added to the vocabulary.
            image_size: As in the constructor.
            layer: As in the constructor.
            gradient_checkpointing: As in the constructor.
            history: As in the constructor.
            row_tokens: As in the constructor.
            dtype: Of the parameters; `auto` keeps what the checkpoint says.
            attention: Attention implementation of transformers: `eager`, `sdpa`, `flash_attention_2` or another.
            revision: Branch, tag or commit of a hub id.

        Returns:
            The backbone, in evaluation mode as transformers loads it.

        Raises:
            CheckpointError: If `source` is neither a whole folder nor a reachable hub id, or lacks a weight.
            SettingError: If this machine or model lacks the attention implementation.
        """
        model = load_model(source, dtype=dtype, attention=attention, revision=revision)
        settings = (view_tags, image_size, layer, gradient_checkpointing, history, row_tokens)
        return cls._load_rest(model, source, revision, *settings)

    @classmethod
    def from_config(
        cls,
        source: str | Path,
        *,
        view_tags: Sequence[str],
        image_size: int | None = None,
        layer: int = -1,
        gradient_checkpointing: bool = False,
        history: HistoryLayout = "images",
        row_tokens: int | None = None,
        attention: str = "sdpa",
        revision: str | None = None,
    ) -> "QwenVLBackbone":
        """Build with random weights from a configuration and a tokenizer; the weights come from a checkpoint later.

        Args:
            source: Folder or hub id with `config.json` and the tokenizer.
            view_tags: As in `from_pretrained`.
            image_size: As in the constructor.
            layer: As in the constructor.
            gradient_checkpointing: As in the constructor.
            history: As in the constructor.
            row_tokens: As in the constructor.
            attention: Attention implementation of transformers.
            revision: Branch, tag or commit of a hub id.

        Raises:
            CheckpointError: If `source` is neither a whole folder nor a reachable hub id.
            SettingError: If this machine or model lacks the attention implementation.
        """
        model = random_model(source, attention=attention, revision=revision)
        settings = (view_tags, image_size, layer, gradient_checkpointing, history, row_tokens)
        return cls._load_rest(model, source, revision, *settings)

    @classmethod
    def _load_rest(
        cls,
        model: PreTrainedModel,
        source: str | Path,
        revision: str | None,
        view_tags: Sequence[str],
        image_size: int | None,
        layer: int,
        gradient_checkpointing: bool,
        history: HistoryLayout,
        row_tokens: int | None,
    ) -> "QwenVLBackbone":
        with reading(source):
            saved = AutoTokenizer.from_pretrained(source, revision=revision)
            image_processor = AutoImageProcessor.from_pretrained(source, revision=revision)
        tokenizer = saved.backend_tokenizer
        add_view_tokens(model, tokenizer, view_tags)
        return cls(
            model,
            tokenizer=tokenizer,
            image_size=image_size,
            image_processor=image_processor,
            layer=layer,
            gradient_checkpointing=gradient_checkpointing,
            history=history,
            chat_template=saved.chat_template,
            row_tokens=row_tokens,
        )

    @property
    def width(self) -> int:
        """Features of one context token."""
        return int(self.model.config.text_config.hidden_size)

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary in use."""
        return self.inputs.tokenizer

    def prepare(
        self, observations: Sequence[Observation | Conversation], *, with_labels: bool = False
    ) -> dict[str, Tensor]:
        """Tokens, positions and patches of a batch, on the CPU; see `QwenInputs`, which does it without the network.

        Args:
            observations: At least one, with conversations among them or not.
            with_labels: Whether to say which tokens a language loss asks for.
        """
        return self.inputs(observations, with_labels=with_labels)

    def forward(self, inputs: Mapping[str, Tensor], *, with_logits: bool = False) -> Context:
        """Run the model.

        Args:
            inputs: What `prepare` returned, on any device.
            with_logits: Whether to run the language head on every token.

        Returns:
            States, mask and the rotary positions that the model used, and the language loss where the inputs hold
            labels; for it the language head runs on the labelled tokens alone. The vision tower does not run for a
            batch without images, unless its weights are divided among processes and there are labels.
        """
        device = self.model.get_input_embeddings().weight.device
        tensors = {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}
        labels, places = tensors.pop("labels", None), tensors.pop("places", None)
        mask, positions = tensors["attention_mask"], tensors["position_ids"]
        known: dict[str, Any] = dict(tensors)
        if places is not None:
            known = self._apart(tensors)
            positions = positions.flatten(1)[:, places]
        with nullcontext() if labels is None else self._looking(tensors):
            output = self.model.model(**known, use_cache=False, output_hidden_states=self.layer != -1)
        last = output.last_hidden_state
        hidden = last if self.layer == -1 else output.hidden_states[self.layer]
        head = self.model.lm_head
        logits = head(last) if with_logits else None
        if places is not None:
            hidden = hidden.flatten(0, 1)[places]
            logits = None if logits is None else logits.flatten(0, 1)[places]
        return Context(
            hidden=hidden,
            mask=mask,
            position_ids=positions,
            logits=logits,
            language_loss=None if labels is None else projected_next_token_loss(last, labels, project=head),
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights, configuration and tokenizer where `from_pretrained` finds them.

        Args:
            folder: Made if absent.

        Raises:
            CheckpointError: If the model has LoRA adapters that are not merged.
        """
        self.save_config(folder)
        self.model.save_pretrained(folder)

    def save_config(self, folder: str | Path) -> None:
        """Write configuration, tokenizer and image processor where `from_config` finds them, without weights.

        Args:
            folder: Made if absent.

        Raises:
            CheckpointError: If the model has LoRA adapters that are not merged.
        """
        refuse_adapters(self.model)
        self.model.config.save_pretrained(folder)
        template = self.inputs.chat_template
        PreTrainedTokenizerFast(tokenizer_object=self.tokenizer, chat_template=template).save_pretrained(folder)
        self.inputs.image_processor.save_pretrained(folder)

    def init_args(self) -> dict[str, Any]:
        """Arguments of `from_config` beside the folder of `save_config`; its vocabulary has the view tags."""
        return {
            "view_tags": [],
            "image_size": self.inputs.image_size,
            "layer": self.layer,
            "history": self.inputs.history,
            "attention": self.model.config._attn_implementation,
        }

    def get_extra_state(self) -> Tensor:
        """The vocabulary as JSON bytes, which a weights-only load accepts."""
        return tokenizer_to_tensor(self.tokenizer)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the vocabulary of a checkpoint.

        Args:
            state: What `get_extra_state` returned.

        Raises:
            CheckpointError: If the vocabulary does not fit the model.
        """
        tokenizer = tokenizer_from_tensor(state)
        self._check_size(tokenizer, CheckpointError)
        self.inputs.set_tokenizer(tokenizer)

    def _apart(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Arguments of the model for packed rows."""
        config, dtype = self.model.config.text_config, self.model.get_input_embeddings().weight.dtype
        mask, runs = packed_masks(tensors, attention=config._attn_implementation, dtype=dtype)
        hybrid = "linear_attention" in (getattr(config, "layer_types", None) or ())
        taken = {name: tensor for name, tensor in tensors.items() if name != "within" and not name.startswith("run_")}
        return {**taken, "attention_mask": {"full_attention": mask, "linear_attention": runs} if hybrid else mask}

    @contextmanager
    def _looking(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """Let the vision tower run on an empty image where its weights are divided and a batch with labels has none.

        Processes gather the weights of the tower together, and some may have pictures while this one has words alone.
        The result is added to the embeddings as 0, so that gradients are gathered in the same order too. Runs without
        labels, such as text to action, have pictures everywhere or nowhere.
        """
        if not isinstance(self, FSDPModule) or "pixel_values" in tensors:
            yield
            return
        processor, tower = self.inputs.image_processor, self.model.model.visual
        merge, device = processor.merge_size, tensors["input_ids"].device
        features = 3 * processor.temporal_patch_size * processor.patch_size**2
        seen = tower(
            torch.zeros(merge**2, features, device=device, dtype=tower.dtype),
            grid_thw=torch.tensor([[1, merge, merge]], device=device),
        )
        streams = [seen.pooler_output, *(getattr(seen, "deepstack_features", None) or [])]
        nothing = 0 * torch.stack([stream.sum() for stream in streams]).sum()
        hook = self.model.get_input_embeddings().register_forward_hook(lambda *call: call[-1] + nothing)
        try:
            yield
        finally:
            hook.remove()

    def _check_size(self, tokenizer: Tokenizer, error: type[Exception]) -> None:
        rows = self.model.get_input_embeddings().num_embeddings
        if tokenizer.get_vocab_size() > rows:
            raise error(
                f"tokenizer must have at most as many tokens as the model has embeddings ({rows}), "
                f"got {tokenizer.get_vocab_size()}. Build the model with the view_tags of the tokenizer."
            )

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        apply_keeping_rotary(self, lambda: super(QwenVLBackbone, self)._apply(fn, recurse))
        return self
