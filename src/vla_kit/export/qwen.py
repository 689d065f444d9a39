"""`QwenVLBackbone` as a graph: pictures of one size in, no look at an image grid."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vla_kit.backbones.qwen_vl import QwenVLBackbone
from vla_kit.errors import MissingExtraError, SettingError
from vla_kit.export.patches import Patches
from vla_kit.protocols import Context

try:
    from transformers.exporters.utils import precompute_export_inputs
except ImportError as error:
    raise MissingExtraError("transformers>=5.24", extra="export") from error

__all__ = ["QwenGraph"]

_ATTENTION: Final = "flash_equal_pictures"  # `flash`: the tower hands over the boundaries instead of cutting by them
_PER_PICTURE: Final = "of_picture_"
_LINEAR_CHUNK: Final = 64  # tokens that transformers' gated delta rule takes at once
_WHY_FIXED: Final = (
    "token of any length: linear attention goes through a sequence in chunks of 64 tokens, whose number shapes the "
    "graph; fill shorter ones up on the right, with attention_mask false"
)


class QwenGraph(nn.Module):
    """The backbone with pictures of one size and number, which are cut into patches inside.

    Everything that a tower works out of the image grid is a constant here, and pictures are an axis of their own, so
    that their number, and with it the batch, may change.

    Args:
        backbone: Its parts are shared.
        prepared: What its `prepare` made of observations like those to come.

    Raises:
        SettingError: If samples differ in the number or size of their pictures, there is none, or views are videos.
    """

    axes: Mapping[str, tuple[str, ...]] = {
        "pixels": ("batch", "image", "3", "height", "image_width"),
        "input_ids": ("batch", "token"),
        "attention_mask": ("batch", "token"),
        "position_ids": ("3", "batch", "token"),
    }

    def __init__(self, backbone: QwenVLBackbone, prepared: Mapping[str, Tensor]) -> None:
        super().__init__()
        if "pixel_values_videos" in prepared:
            raise SettingError("history must be 'images' in a graph, got 'video'. Its grid of times is not a constant.")
        if "image_grid_thw" not in prepared:
            raise SettingError("observations must have a picture each, got none. Give one with its views.")
        grids = prepared["image_grid_thw"]
        samples, images = prepared["input_ids"].shape[0], len(grids)
        per_sample = (prepared["input_ids"] == backbone.model.config.image_token_id).sum(1)
        if (grids != grids[0]).any() or images % samples or (per_sample != per_sample[0]).any():
            raise SettingError(
                f"observations must have equally many pictures of one size, got the grids {grids.tolist()} in "
                f"{samples} observations. Export from observations with the same views, or set image_size."
            )
        self.backbone = backbone
        layers = getattr(backbone.model.config.text_config, "layer_types", None) or []
        self._chunk = _LINEAR_CHUNK if "linear_attention" in layers else 1
        self.longest: Mapping[str, int] = {"token": backbone.inputs.context_length} if self._chunk == 1 else {}
        self.fixed: Mapping[str, str] = {"token": _WHY_FIXED} if self._chunk > 1 else {}
        self._images = images // samples
        self._grid: tuple[int, int] = (int(grids[0, 1]), int(grids[0, 2]))
        processor = backbone.inputs.image_processor
        self._patches = Patches(
            patch_size=processor.patch_size,
            merge_size=processor.merge_size,
            temporal_patch_size=processor.temporal_patch_size,
            mean=processor.image_mean,
            std=processor.image_std,
        )
        constants: dict[str, Any] = {"grid_thw": torch.tensor([[1, *self._grid]])}
        precompute_export_inputs(self._tower, constants)
        self._boundaries: dict[str, Any] = {}
        for name, value in constants.items():
            if name.startswith("cu_"):  # cu_seqlens and max_seqlen, cu_window_seqlens and max_window_seqlen
                longest = name.replace("cu_", "max_").replace("seqlens", "seqlen")
                self._boundaries |= {name: value.tolist(), longest: int(value.diff().max())}
            elif isinstance(value, Tensor) and name != "grid_thw":
                self.register_buffer(_PER_PICTURE + name, value.to(prepared_device(backbone)), persistent=False)

    @property
    def _tower(self) -> Any:  # noqa: ANN401 (a class of transformers)
        return self.backbone.model.model.visual

    def arrange(self, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inputs of the graph from what `Backbone.prepare` made; its patches become pictures again.

        Where the number of tokens is fixed, it is filled up to whole chunks, so that longer sentences find room.
        """
        rows, columns = self._grid
        apart = prepared["pixel_values"].unflatten(0, (-1, rows * columns))
        pixels = self._patches.join(apart, rows=rows, columns=columns)
        missing = -prepared["input_ids"].shape[1] % self._chunk
        words = {name: pad(prepared[name], (0, missing)) for name in ("input_ids", "attention_mask", "position_ids")}
        return {"pixels": pixels.unflatten(0, (-1, self._images)), **words}

    @contextmanager
    def traceable(self) -> Iterator[None]:
        """Let the tower attend within pictures by shape, and the language model add deep tokens without counting."""
        ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, _attend_within)
        config, language = self._tower.config, self.backbone.model.model.language_model
        before = config._attn_implementation
        config._attn_implementation = _ATTENTION
        if hasattr(language, "_deepstack_process"):
            language._deepstack_process = _add_everywhere
        try:
            yield
        finally:
            config._attn_implementation = before
            vars(language).pop("_deepstack_process", None)

    def see(self, pixels: UInt8[Tensor, "batch image 3 height image_width"]) -> list[Float[Tensor, "batch row width"]]:
        """Tokens of the pictures of each sample: those of the sequence, then those of the deep layers."""
        batch = pixels.shape[0]
        patches = self._patches.split(pixels.flatten(0, 1))
        images, length, _ = patches.shape
        settings = dict(self._boundaries)
        for name, constant in self.named_buffers(recurse=False):
            spread = constant[None].expand(images, *constant.shape)
            if name.endswith("window_index"):  # the only one that counts on through the pictures
                spread = spread + (torch.arange(images, device=constant.device) * constant.shape[0])[:, None]
            settings[name.removeprefix(_PER_PICTURE)] = spread.reshape(-1, *constant.shape[1:])
        output = self._tower(patches.reshape(images * length, -1).to(self._tower.dtype), grid_thw=None, **settings)
        streams = [output.pooler_output, *(getattr(output, "deepstack_features", None) or [])]
        return [stream.reshape(batch, -1, stream.shape[-1]) for stream in streams]

    def forward(self, inputs: Mapping[str, Tensor]) -> Context:
        """Run the backbone.

        Args:
            inputs: As named by `axes`.

        Returns:
            The context that the backbone gives.
        """
        model, mask = self.backbone.model, inputs["attention_mask"]
        is_image = inputs["input_ids"] == model.config.image_token_id
        place = (is_image.long().cumsum(-1) - 1).clamp(min=0)[..., None]
        words = model.get_input_embeddings()(inputs["input_ids"])
        shown, *deep = (
            torch.where(is_image[..., None], tokens.gather(1, place.expand(-1, -1, tokens.shape[-1])), 0)
            for tokens in self.see(inputs["pixels"])
        )
        settings: dict[str, Any] = {"visual_pos_masks": is_image, "deepstack_visual_embeds": deep} if deep else {}
        layer = self.backbone.layer
        output = model.model.language_model(
            inputs_embeds=torch.where(is_image[..., None], shown.to(words.dtype), words),
            attention_mask=mask,
            position_ids=inputs["position_ids"],
            use_cache=False,
            output_hidden_states=layer != -1,
            **settings,
        )
        hidden = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
        return Context(hidden=hidden, mask=mask, position_ids=inputs["position_ids"])


def prepared_device(backbone: QwenVLBackbone) -> torch.device:
    """Device of the network."""
    device: torch.device = backbone.model.get_input_embeddings().weight.device
    return device


def _add_everywhere(hidden: Tensor, _where: Tensor, deep: Tensor) -> Tensor:
    """Deep tokens that are 0 beside the pictures, added to all tokens."""
    return hidden + deep.to(hidden.dtype)


def _attend_within(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    scaling: float,
    cu_seq_lens_q: list[int],
    **_settings: Any,  # noqa: ANN401 (transformers' own)
) -> tuple[Tensor, None]:
    """Attention of tokens [1, head, picture token, width] within the pictures, or within parts of them.

    `cu_seq_lens_q` are the boundaries of the parts of one picture; all pictures are alike.
    """
    length = cu_seq_lens_q[-1]
    query, key, value = (
        part[0].unflatten(1, (-1, length)).transpose(0, 1) for part in (query, key, value)
    )  # [picture, head, token, width]
    mask = None
    if len(cu_seq_lens_q) > 2:
        place = torch.arange(length, device=query.device)
        part = torch.stack([place >= boundary for boundary in cu_seq_lens_q[1:-1]]).sum(0)
        mask = part[:, None] == part
    attended = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    return attended.transpose(1, 2).flatten(0, 1)[None], None
