"""`TimmBackbone` as a graph."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vla_kit.backbones.qwen_inputs import mrope_positions
from vla_kit.backbones.timm_vit import TimmBackbone
from vla_kit.errors import SettingError
from vla_kit.protocols import Context

__all__ = ["TimmGraph"]


class TimmGraph(nn.Module):
    """The backbone with the same views in every sample; the layout of its tokens is worked out inside.

    Args:
        backbone: Its parts are shared.
        prepared: What its `prepare` made of observations like those to come.

    Raises:
        SettingError: If samples differ in their views, or there is none.
    """

    axes: Mapping[str, tuple[str, ...]] = {
        "pixels": ("batch", "image", "3", "height", "image_width"),
        "text_ids": ("batch", "word"),
        "text_mask": ("batch", "word"),
    }
    view: Tensor
    positions: Tensor

    def __init__(self, backbone: TimmBackbone, prepared: Mapping[str, Tensor]) -> None:
        super().__init__()
        if "pixels" not in prepared:
            raise SettingError("observations must have a picture each, got none. Give one with its views.")
        samples, images = prepared["text_ids"].shape[0], len(prepared["view"])
        views = prepared["view"].reshape(samples, -1) if images % samples == 0 else prepared["view"][:, None]
        lengths = prepared["mask"].sum(1) - prepared["text_mask"].sum(1)
        if images % samples or (views != views[0]).any() or (lengths != lengths[0]).any():
            raise SettingError(
                f"observations must have the same views, got {images} pictures in {samples} observations. Export from "
                "observations of one robot with all its cameras."
            )
        self.backbone = backbone
        self.fixed: Mapping[str, str] = {}
        self.longest: Mapping[str, int] = {"word": backbone.context_length}
        rows, columns = backbone._grid
        self.register_buffer("view", views[0], persistent=False)
        self.register_buffer("positions", mrope_positions([(rows, columns)] * len(views[0])), persistent=False)
        self._next_position = len(views[0]) * max(rows, columns)

    def arrange(self, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inputs of the graph from what `Backbone.prepare` made."""
        pixels = prepared["pixels"].unflatten(0, (-1, len(self.view)))
        return {"pixels": pixels, "text_ids": prepared["text_ids"], "text_mask": prepared["text_mask"]}

    @contextmanager
    def traceable(self) -> Iterator[None]:
        """Keep PyTorch's encoder off its fused kernel, which graphs do not know."""
        before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(before)

    def forward(self, inputs: Mapping[str, Tensor]) -> Context:
        """Run the backbone.

        Args:
            inputs: As named by `axes`.

        Returns:
            The context that the backbone gives.
        """
        pixels, ids, text_mask = inputs["pixels"], inputs["text_ids"], inputs["text_mask"]
        (batch, words), device, seen = ids.shape, ids.device, self.positions.shape[1]
        sample = torch.arange(batch, device=device)[:, None]
        of_images = sample * seen + torch.arange(seen, device=device)
        of_words = batch * seen + sample * words + torch.arange(words, device=device)
        spoken = (self._next_position + torch.arange(words, device=device)).expand(3, -1)
        positions = torch.cat([self.positions.to(device), spoken], 1)
        context: Context = self.backbone(
            {
                "pixels": pixels.flatten(0, 1),
                "view": self.view.to(device)[None].expand(batch, -1).reshape(-1),
                "text_ids": ids,
                "text_mask": text_mask,
                "source": torch.cat([of_images, of_words], 1),
                "mask": torch.cat([torch.ones(batch, seen, dtype=torch.bool, device=device), text_mask], 1),
                "position_ids": positions[:, None].expand(-1, batch, -1),
            }
        )
        return context
