"""Tokens of images that a frozen vision tower has seen, kept on the disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from vla_kit.backbones._tensor_files import digest, precision, read_tensors, write_tensors
from vla_kit.backbones._wrapping import hide_in_state_dict
from vla_kit.errors import SettingError

__all__ = ["CachedVisionTower", "cache_vision"]

_TOKENS, _DEEPSTACK = "tokens", "deepstack_"


class CachedVisionTower(nn.Module):
    """Stand in for the frozen vision tower of a Qwen model and run it once per image, not once per step.

    An image is known by the digest of its patches, a tower by the digest of its weights, so other weights, image sizes
    or precisions never meet. One file per image; several processes may share the folder. Each call copies the patches
    to the CPU to digest them, which pays where the tower is large; random augmentation of images leaves nothing to
    find. A temporal patch of a video, which the tower sees alone, counts as an image. The state dict is that of the
    tower.

    Args:
        tower: Vision tower of Qwen2.5-VL, Qwen3-VL or Qwen3.5; frozen by the time it is called.
        folder: Made if absent. It grows with the number of images; delete it at will.
    """

    def __init__(self, tower: nn.Module, *, folder: str | Path) -> None:
        super().__init__()
        self.tower = tower
        self.folder = Path(folder)
        self._fingerprint: str | None = None
        hide_in_state_dict(self, "tower")
        self.register_load_state_dict_pre_hook(_forget)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (the tower's settings, which the model around it reads)
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("tower"), name)

    def forward(self, pixel_values: Tensor, grid_thw: Tensor, **settings: Any) -> BaseModelOutputWithPooling:  # noqa: ANN401 (transformers' own)
        """Tokens of a batch of images or videos.

        Args:
            pixel_values: Patches of all images [patch, features of a patch].
            grid_thw: Patches of each image or video along time, height and width [image, 3].
            **settings: Passed on to the tower.

        Returns:
            Merged tokens of all images as `pooler_output` and, for Qwen3-VL, `deepstack_features`; no states before the
            merge.

        Raises:
            SettingError: If the tower is not frozen.
            DataError: If a file of the folder is broken.
        """
        if any(parameter.requires_grad for parameter in self.tower.parameters()):
            raise SettingError(
                "tower must be frozen where its tokens are cached, got parameters that learn. "
                "Add backbone.model.model.visual to model.freeze, or leave the cache out."
            )
        grid_thw = grid_thw.repeat_interleave(grid_thw[:, 0], dim=0)  # attention stays within a temporal patch
        grid_thw[:, 0] = 1
        patches = grid_thw.prod(-1).tolist()
        images = pixel_values.split(patches)
        files = [self._file(image, grid) for image, grid in zip(images, grid_thw, strict=True)]
        device = str(pixel_values.device)
        known = {file: read_tensors(file, needed=[_TOKENS], device=device) for file in set(files) if file.exists()}
        missing = {file: index for index, file in enumerate(files) if file not in known}
        if missing:
            chosen = sorted(missing.values())
            with torch.no_grad():
                output = self.tower(
                    torch.cat([images[index] for index in chosen]), grid_thw=grid_thw[chosen], **settings
                )
            merged = [patches[index] // int(self.spatial_merge_size) ** 2 for index in chosen]
            streams = {_TOKENS: output.pooler_output}
            for index, features in enumerate(getattr(output, "deepstack_features", None) or []):
                streams[f"{_DEEPSTACK}{index}"] = features
            split = {name: tensor.split(merged) for name, tensor in streams.items()}
            for place, index in enumerate(chosen):
                known[files[index]] = {name: parts[place] for name, parts in split.items()}
                write_tensors(files[index], known[files[index]])
        entries = [known[file] for file in files]
        joined = {name: torch.cat([entry[name] for entry in entries]) for name in entries[0]}
        tokens = joined.pop(_TOKENS)
        if joined:
            deepstack = [joined[f"{_DEEPSTACK}{index}"] for index in range(len(joined))]
            return BaseModelOutputWithDeepstackFeatures(pooler_output=tokens, deepstack_features=deepstack)
        return BaseModelOutputWithPooling(pooler_output=tokens)

    def _file(self, image: Tensor, grid: Tensor) -> Path:
        if self._fingerprint is None:
            self._fingerprint = digest(*self.tower.state_dict().values())
        name = digest(image, grid, text=f"{image.dtype} {precision(image.device)}")
        return self.folder / self._fingerprint / name[:2] / f"{name}.safetensors"

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self._fingerprint = None
        return cast(Self, super()._apply(fn, recurse))


def cache_vision(backbone: nn.Module, *, folder: str | Path) -> nn.Module:
    """Put a `CachedVisionTower` in place of the vision tower of a backbone.

    Args:
        backbone: `QwenVLBackbone`, with LoRA or without; changed in place.
        folder: Where the tokens are kept.

    Returns:
        The backbone itself, so that a YAML file may name this function as its class_path.

    Raises:
        SettingError: If the backbone has no vision tower of Qwen.

    Examples:
        >>> import tempfile
        >>> from vla_kit.backbones.tiny import tiny_qwen3_vl
        >>> backbone = tiny_qwen3_vl(corpus=["push"], view_tags=["ego"], hidden=32, vision_layers=1)
        >>> names = backbone.state_dict().keys()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache_vision(backbone, folder=folder).state_dict().keys() == names
        True
    """
    inner = getattr(getattr(backbone, "model", None), "model", None)
    if inner is None or not hasattr(inner, "visual"):
        raise SettingError(
            f"backbone must be a QwenVLBackbone, got {type(backbone).__name__} without a Qwen vision tower. "
            "Leave the cache out."
        )
    inner.visual = CachedVisionTower(inner.visual, folder=folder)
    return backbone


def _forget(module: Any, *_rest: Any) -> None:  # noqa: ANN401 (a hook of torch)
    module._fingerprint = None
