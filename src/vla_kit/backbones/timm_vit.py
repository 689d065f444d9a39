"""Any vision model of timm beside a small text encoder: a backbone without a language model."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import timm
import torch
from einops import rearrange
from torch import Tensor, nn

from vla_kit.backbones._speechless import observations_alone
from vla_kit.backbones.images import view_image
from vla_kit.backbones.qwen_inputs import mrope_positions
from vla_kit.backbones.vocabulary import tokenizer_from_tensor, tokenizer_to_tensor, train_tokenizer
from vla_kit.embodiment.views import view_tokens
from vla_kit.errors import CheckpointError, SettingError, ShapeError
from vla_kit.protocols import Context, Conversation, Observation

__all__ = ["TimmBackbone"]

_START = "<|start|>"


class TimmBackbone(nn.Module):
    """Feature map of a timm model for each view, a small transformer for the prompt, and a shared width.

    The tokens of one sample are its views, row by row and in the order of the observation, then the prompt; padding
    is on the right and holds zeros. Views and prompt meet in the action head, not here. The vocabulary, view tags
    included, travels in the state dict. A view has one image: there is no language model to tell frames apart.

    Args:
        model_name: Name in timm, such as `test_vit`, `convnextv2_atto` or `vit_small_patch14_dinov2`.
        corpus: Sentences of the prompts to come, from which the vocabulary is trained. A checkpoint brings its own.
        view_tags: Tags of all views that will ever be given; each is a token of the vocabulary, whose
            embedding is added to the tokens of the view.
        image_size: Side to which images are resized [pixel].
        width: Features of one context token.
        stage: Which feature map, counted from the end: -1 the coarsest of a convolutional network or the last block
            of a transformer, -2 the one before. Layers behind it are not built, where timm can leave them out.
        text_layers: Layers of the text encoder.
        heads: Attention heads of the text encoder.
        vocabulary_size: Rows of the text embedding, whatever the corpus gives.
        context_length: Longest prompt [token].
        pretrained: Whether timm downloads pretrained weights.
        seed: Of the random weights; the global generator is left alone.

    Raises:
        SettingError: If timm does not know `model_name`, `view_tags` repeats a tag, a size is below 1, the heads do not
            divide `width`, or the model has no such `stage` or takes no images of `image_size`.

    Examples:
        >>> backbone = TimmBackbone("test_vit", corpus=["push the puck"], view_tags=["ego"], image_size=32, width=16)
        >>> image = torch.zeros(3, 32, 32, dtype=torch.uint8)
        >>> context = backbone(backbone.prepare([Observation(prompt="push", views={"ego": image})]))
        >>> context.position_ids[:, 0, :4]  # 2 x 2 patches
        tensor([[0, 0, 0, 0],
                [0, 0, 1, 1],
                [0, 1, 0, 1]])

    Source:
        Not in Qwen-VLA (arXiv 2605.30280), which uses Qwen3.5-4B; positions follow its M-RoPE, so that an action head
        sees the same layout behind either backbone.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model_name: str,
        *,
        corpus: Sequence[str],
        view_tags: Sequence[str],
        image_size: int = 96,
        width: int = 128,
        stage: int = -1,
        text_layers: int = 2,
        heads: int = 4,
        vocabulary_size: int = 512,
        context_length: int = 256,
        pretrained: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not timm.is_model(model_name):
            near = timm.list_models(f"*{model_name.split('_')[0]}*")[:5]
            raise SettingError(f"model_name must be a model of timm, got {model_name!r}. Near ones: {near}.")
        if len(set(view_tags)) != len(view_tags):
            raise SettingError(f"view_tags must be distinct, got {list(view_tags)}. Name each view once.")
        for name, value in (
            ("image_size", image_size),
            ("width", width),
            ("text_layers", text_layers),
            ("heads", heads),
            ("context_length", context_length),
        ):
            if value < 1:
                raise SettingError(f"{name} must be at least 1, got {value}. Raise it.")
        if stage > -1:
            raise SettingError(f"stage must be at most -1, got {stage}. Count from the end: -1 is the last one.")
        if width % heads:
            raise SettingError(
                f"width must be a multiple of heads ({heads}), got {width}. Use {max(1, width // heads) * heads}."
            )
        self.image_size = image_size
        self.context_length = context_length
        self._init_args = {
            "model_name": model_name,
            "view_tags": list(view_tags),
            "image_size": image_size,
            "width": width,
            "stage": stage,
            "text_layers": text_layers,
            "heads": heads,
            "vocabulary_size": vocabulary_size,
            "context_length": context_length,
        }
        special = [_START, *(view_tokens(tag)[0] for tag in view_tags)]
        self.tokenizer = train_tokenizer(corpus, special_tokens=special, vocabulary_size=vocabulary_size)
        config = timm.get_pretrained_cfg(model_name)
        fixed = {"img_size": image_size} if config is not None and config.fixed_input_size else {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            with _refusals(model_name, image_size, stage):
                self.vision = timm.create_model(
                    model_name, pretrained=pretrained, features_only=True, out_indices=(stage,), **fixed
                )
            channels = self.vision.feature_info.channels()[-1]
            self.vision_norm = nn.LayerNorm(channels)
            self.vision_projection = nn.Linear(channels, width)
            self.text_embedding = nn.Embedding(vocabulary_size, width)
            self.text_position = nn.Embedding(context_length, width)
            layer = nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.text_encoder = nn.TransformerEncoder(
                layer, text_layers, norm=nn.LayerNorm(width), enable_nested_tensor=False
            )
            for embedding in (self.text_embedding, self.text_position):
                nn.init.normal_(embedding.weight, std=0.02)
        self.register_buffer("mean", torch.tensor(config.mean if config else (0.5, 0.5, 0.5)).view(3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(config.std if config else (0.5, 0.5, 0.5)).view(3, 1, 1) * 255)
        self.vision.eval()
        with torch.no_grad(), _refusals(model_name, image_size, stage):
            self._grid = self._features(torch.zeros(1, 3, image_size, image_size)).shape[1:3]
        self.vision.train()
        # Rotary positions tell attention how far apart two tokens are, not where they stand: the head, which reads
        # values, needs the place of a token in its features.
        self.vision_position = nn.Parameter(torch.zeros(self._grid[0] * self._grid[1], width))

    @property
    def width(self) -> int:
        """Features of one context token."""
        return self.text_embedding.embedding_dim

    def prepare(
        self, observations: Sequence[Observation | Conversation], *, with_labels: bool = False
    ) -> dict[str, Tensor]:
        """Pixels, token ids, positions and the layout of a batch.

        Args:
            observations: At least one; samples may have different views, or none.
            with_labels: Refused, for there is no language head.

        Returns:
            `text_ids` and `text_mask` [batch, longest prompt], `mask` [batch token], `position_ids` [axis batch token],
            `source` [batch token]: where each context token stands in the list of all image tokens followed by all
            (padded) text tokens; and, where the batch holds an image, `pixels` [image, 3, side, side] uint8 and
            `view` [image], the token ids of the tags.

        Raises:
            ShapeError: If there is no observation or an image is not `[3, height, width]`.
            DtypeError: If an image is not uint8.
            SettingError: If a view tag is unknown, a view has several frames, or a prompt is too long.
        """
        observations = observations_alone(observations, with_labels=with_labels, backbone="TimmBackbone")
        if not observations:
            raise ShapeError("observations must hold at least one observation, got 0. Drop empty batches.")
        rows, columns = self._grid
        patches = rows * columns
        texts = [self._text(observation.prompt, index) for index, observation in enumerate(observations)]
        longest = max(map(len, texts))
        images = [(tag, image) for observation in observations for tag, image in observation.views.items()]
        for tag, image in images:
            if image.ndim == 4:
                raise SettingError(
                    f"views must have one image each for TimmBackbone, got {len(image)} frames of {tag!r}. Leave the "
                    "history out, or use QwenVLBackbone or ImageTextBackbone."
                )
        text_ids = torch.zeros(len(texts), longest, dtype=torch.long)
        text_mask = torch.zeros(len(texts), longest, dtype=torch.bool)
        sources, positions, used = [], [], 0
        for index, (observation, text) in enumerate(zip(observations, texts, strict=True)):
            text_ids[index, : len(text)] = torch.tensor(text)
            text_mask[index, : len(text)] = True
            count = len(observation.views) * patches
            start = len(images) * patches + index * longest
            sources.append(torch.cat([torch.arange(used, used + count), torch.arange(start, start + len(text))]))
            positions.append(mrope_positions([(rows, columns)] * len(observation.views) + [len(text)]))
            used += count
        length = max(map(len, sources))
        source = torch.zeros(len(texts), length, dtype=torch.long)
        mask = torch.zeros(len(texts), length, dtype=torch.bool)
        position_ids = torch.zeros(3, len(texts), length, dtype=torch.long)
        for index, (indices, position) in enumerate(zip(sources, positions, strict=True)):
            source[index, : len(indices)] = indices
            mask[index, : len(indices)] = True
            position_ids[:, index, : len(indices)] = position
        tensors = {
            "text_ids": text_ids,
            "text_mask": text_mask,
            "source": source,
            "mask": mask,
            "position_ids": position_ids,
        }
        if images:
            tensors["pixels"] = torch.stack([view_image(tag, image, self.image_size) for tag, image in images])
            tensors["view"] = torch.tensor([self._view(tag) for tag, _ in images])
        return tensors

    def forward(self, inputs: Mapping[str, Tensor], *, with_logits: bool = False) -> Context:
        """Run the vision model and the text encoder.

        Args:
            inputs: What `prepare` returned, on any device.
            with_logits: Refused: there is no language model.

        Returns:
            Context; the vision model does not run for a batch without images.

        Raises:
            SettingError: If `with_logits` is set.
        """
        if with_logits:
            raise SettingError(
                "with_logits must be False for TimmBackbone, got True. It has no language head; use QwenVLBackbone."
            )
        weight = self.text_embedding.weight
        tensors = {name: tensor.to(weight.device, non_blocking=True) for name, tensor in inputs.items()}
        ids, text_mask = tensors["text_ids"], tensors["text_mask"]
        text = self.text_embedding(ids) + self.text_position.weight[: ids.shape[1]]
        tokens = self.text_encoder(text, src_key_padding_mask=~text_mask)
        tokens = rearrange(tokens, "sample token width -> (sample token) width")
        if "pixels" in tensors:
            features = rearrange(
                self._features(tensors["pixels"]), "image row column width -> image (row column) width"
            )
            image_tokens = self.vision_projection(self.vision_norm(features)) + self.vision_position
            image_tokens = image_tokens + self.text_embedding(tensors["view"])[:, None]
            tokens = torch.cat([rearrange(image_tokens, "image token width -> (image token) width"), tokens])
        mask = tensors["mask"]
        hidden = torch.where(mask[..., None], tokens[tensors["source"]], 0.0)
        return Context(hidden=hidden, mask=mask, position_ids=tensors["position_ids"])

    def init_args(self) -> dict[str, Any]:
        """Arguments that build this form without a download; a state dict brings weights and vocabulary."""
        return {**self._init_args, "corpus": []}

    def get_extra_state(self) -> Tensor:
        """The vocabulary as JSON bytes, which a weights-only load accepts."""
        return tokenizer_to_tensor(self.tokenizer)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the vocabulary of a checkpoint.

        Args:
            state: What `get_extra_state` returned.

        Raises:
            CheckpointError: If the vocabulary has more tokens than the embedding.
        """
        tokenizer = tokenizer_from_tensor(state)
        rows = self.text_embedding.num_embeddings
        if tokenizer.get_vocab_size() > rows:
            raise CheckpointError(
                f"tokenizer must have at most as many tokens as the embedding ({rows}), "
                f"got {tokenizer.get_vocab_size()}. Build the backbone with a larger vocabulary_size."
            )
        self.tokenizer = tokenizer

    def _features(self, pixels: Tensor) -> Tensor:
        """Feature map [image, rows, columns, channels] of pixels in [0, 255]."""
        normal = (pixels.to(self.mean.dtype) - self.mean) / self.std
        features: Tensor = self.vision(normal)[-1]
        channels_last = features.shape[-1] == self.vision_norm.normalized_shape[0] != features.shape[1]
        return features if channels_last else rearrange(features, "image width row column -> image row column width")

    def _text(self, prompt: str, index: int) -> list[int]:
        ids: list[int] = [0, *self.tokenizer.encode(prompt).ids]  # the start token keeps an empty prompt readable
        if len(ids) > self.context_length:
            raise SettingError(
                f"prompt must have at most {self.context_length - 1} tokens, got {len(ids) - 1} in observation "
                f"{index}. Shorten the prompt or raise context_length."
            )
        return ids

    def _view(self, tag: str) -> int:
        token_id: int | None = self.tokenizer.token_to_id(view_tokens(tag)[0])
        if token_id is None:
            special = self.tokenizer.get_added_tokens_decoder().values()
            known = [token.content[2:-8] for token in special if token.content != _START]
            raise SettingError(
                f"views must have tags of the vocabulary {sorted(known)}, got {tag!r}. "
                "Name it in view_tags when the backbone is built."
            )
        return token_id


@contextmanager
def _refusals(model_name: str, image_size: int, stage: int) -> Iterator[None]:
    """What timm asserts of the size of images and of the stage, as an error of ours."""
    try:
        yield
    except AssertionError as error:
        raise SettingError(
            f"image_size and stage must be those that {model_name} takes, got {image_size} and {stage}: {error}. "
            "Change the one that it names."
        ) from error
