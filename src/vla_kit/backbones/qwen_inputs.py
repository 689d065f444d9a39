"""Observations to the tensors of a Qwen vision-language model: token ids, rotary positions, patches."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Qwen2VLImageProcessor

from vla_kit.backbones.images import view_image
from vla_kit.embodiment.views import check_view_tag, view_tokens, wrap_view
from vla_kit.errors import CheckpointError, SettingError, ShapeError
from vla_kit.protocols import Observation

__all__ = ["QwenInputs", "mrope_positions"]

_GridSize = tuple[int, int]


def mrope_positions(pieces: Sequence[int | _GridSize]) -> Tensor:
    """Three-axis rotary positions of one sequence of text runs and images.

    A text run of `n` tokens takes `n` positions, equal on all axes. An image of `rows x columns` merged patches keeps
    one time position, spreads rows and columns over the other two axes, and advances all of them by its longer side.

    Args:
        pieces: In order of the sequence: an `int` is the length of a text run, a pair the (rows, columns) of an image.

    Returns:
        Positions [axis token] on the axes time, height, width.

    Examples:
        >>> mrope_positions([1, (2, 2), 1])
        tensor([[0, 1, 1, 1, 1, 3],
                [0, 1, 1, 2, 2, 3],
                [0, 1, 2, 1, 2, 3]])

    Source:
        Multimodal rotary positions of Qwen2-VL (arXiv 2409.12191, section 2.1), as `get_rope_index` of transformers
        computes them; the tests compare the two.
    """
    start, parts = 0, []
    for piece in pieces:
        if isinstance(piece, int):
            parts.append(torch.arange(start, start + piece).expand(3, -1))
            start += piece
        else:
            rows, columns = piece
            grid = torch.empty(3, rows, columns, dtype=torch.long)
            grid[0] = start
            grid[1] = torch.arange(start, start + rows)[:, None]
            grid[2] = torch.arange(start, start + columns)
            parts.append(grid.flatten(1))
            start += max(rows, columns)
    return torch.cat(parts, dim=1)


@lru_cache(maxsize=256)
def _cached_positions(pieces: tuple[int | _GridSize, ...]) -> Tensor:
    return mrope_positions(pieces)


class QwenInputs:
    """Turn observations into the tensors of a Qwen3-VL or Qwen3.5 model; no network, cheap to send to data workers.

    Each view becomes `<|tag_start|><|vision_start|>patches<|vision_end|><|tag_end|>`, in the order of
    `Observation.views`; the prompt follows. Padding is on the right.

    Args:
        tokenizer: Vocabulary with the tokens of every view tag in it.
        image_processor: Patch, merge and normalisation constants of the vision tower.
        vision_token_ids: Ids of (vision start, image placeholder, vision end).
        context_length: Longest sequence that the model takes [token].
        image_size: Side to which every image is resized, square [pixel]; `None` keeps the aspect ratio and lets
            the image processor choose the size from the number of pixels, as Qwen does.
        padding_id: Token id in padded places; never read.

    Raises:
        SettingError: If `image_size` is not a whole number of merged patches.

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1: view boundary tokens. The paper is silent on whether they are
        vocabulary entries (here they are), on the order of views (the observation's) and on a chat template (none).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        image_processor: Qwen2VLImageProcessor,
        vision_token_ids: tuple[int, int, int],
        context_length: int,
        image_size: int | None = None,
        padding_id: int = 0,
    ) -> None:
        cell = image_processor.patch_size * image_processor.merge_size
        if image_size is not None and (image_size < cell or image_size % cell):
            raise SettingError(
                f"image_size must be a multiple of patch size times merge size ({cell}), got {image_size}. "
                f"Use {max(cell, image_size // cell * cell)}."
            )
        self.image_processor = image_processor
        self.vision_token_ids = vision_token_ids
        self.context_length = context_length
        self.image_size = image_size
        self.padding_id = padding_id
        self.set_tokenizer(tokenizer)

    def set_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Exchange the vocabulary, as loading a checkpoint does.

        Args:
            tokenizer: Must hold the vision tokens at the same ids.

        Raises:
            CheckpointError: If it does not.
        """
        missing = [token_id for token_id in self.vision_token_ids if tokenizer.id_to_token(token_id) is None]
        if missing:
            raise CheckpointError(
                f"tokenizer must know the vision token ids {self.vision_token_ids} of the model, "
                f"got none for {missing}. "
                "Use the tokenizer that was saved beside this model."
            )
        self.tokenizer = tokenizer
        self._view_ids: dict[str, list[int]] = {}

    def __call__(self, observations: Sequence[Observation]) -> dict[str, Tensor]:
        """Tokens, positions and patches of a batch.

        Args:
            observations: At least one; samples may have different views, or none.

        Returns:
            `input_ids` [batch token], `attention_mask` [batch token] bool, `position_ids` [axis batch token] and, where
            the batch holds an image, `pixel_values` [patch, features of a patch] and `image_grid_thw` [image, 3].

        Raises:
            ShapeError: If there is no observation or an image is not `[3, height, width]`.
            DtypeError: If an image is not uint8.
            SettingError: If a view tag is not in the vocabulary, a prompt contains an image placeholder, or a
                sequence is empty or longer than the context.
        """
        if not observations:
            raise ShapeError("observations must hold at least one observation, got 0. Drop empty batches.")
        images = [view_image(tag, image, self.image_size) for one in observations for tag, image in one.views.items()]
        tensors: dict[str, Tensor] = {}
        grids: list[list[int]] = []
        if images:
            processed = self.image_processor(images, do_resize=self.image_size is None, return_tensors="pt")
            tensors = {"pixel_values": processed["pixel_values"], "image_grid_thw": processed["image_grid_thw"]}
            grids = processed["image_grid_thw"].tolist()

        sequences, positions, image_index = [], [], 0
        for index, observation in enumerate(observations):
            ids, pieces = self._sequence(observation, grids[image_index : image_index + len(observation.views)], index)
            image_index += len(observation.views)
            sequences.append(ids)
            positions.append(_cached_positions(tuple(pieces)))
        length = max(len(ids) for ids in sequences)
        input_ids = torch.full((len(sequences), length), self.padding_id)
        mask = torch.zeros(len(sequences), length, dtype=torch.bool)
        position_ids = torch.zeros(3, len(sequences), length, dtype=torch.long)
        for index, (ids, position) in enumerate(zip(sequences, positions, strict=True)):
            input_ids[index, : len(ids)] = torch.tensor(ids)
            mask[index, : len(ids)] = True
            position_ids[:, index, : len(ids)] = position
        return {"input_ids": input_ids, "attention_mask": mask, "position_ids": position_ids, **tensors}

    def _sequence(
        self, observation: Observation, grids: Sequence[Sequence[int]], index: int
    ) -> tuple[list[int], list[int | _GridSize]]:
        merge = self.image_processor.merge_size
        placeholder = self.vision_token_ids[1]
        ids: list[int] = []
        pieces: list[int | _GridSize] = []
        for tag, (_, patch_rows, patch_columns) in zip(observation.views, grids, strict=True):
            rows, columns = patch_rows // merge, patch_columns // merge
            before, after = self._view(tag)
            ids += [*before, *[placeholder] * (rows * columns), *after]
            pieces += [len(before), (rows, columns), len(after)]
        prompt = self.tokenizer.encode(observation.prompt, add_special_tokens=False).ids
        if placeholder in prompt:
            raise SettingError(
                f"prompt must not contain {self.tokenizer.id_to_token(placeholder)!r}, got it in observation {index}. "
                "Give images as views."
            )
        ids += prompt
        if not 0 < len(ids) <= self.context_length:
            raise SettingError(
                f"prompt and views must make 1 to {self.context_length} tokens, got {len(ids)} in observation {index}. "
                "Shorten the prompt, use fewer or smaller views, or a model with a longer context."
            )
        return ids, [*pieces, len(prompt)]

    def _view(self, tag: str) -> tuple[list[int], list[int]]:
        """Token ids before and after the patches of one view."""
        if tag not in self._view_ids:
            start, placeholder, end = (self.tokenizer.id_to_token(token_id) for token_id in self.vision_token_ids)
            ids = self.tokenizer.encode(wrap_view(tag, f"{start}{placeholder}{end}"), add_special_tokens=False).ids
            if len(ids) != 5:
                raise SettingError(
                    f"views must have tags of the vocabulary {self._known_tags()}, got {tag!r}. "
                    "Name it in view_tags when the backbone is built."
                )
            self._view_ids[tag] = ids
        ids = self._view_ids[tag]
        return ids[:2], ids[3:]

    def _known_tags(self) -> list[str]:
        tokens = {token.content for token in self.tokenizer.get_added_tokens_decoder().values()}
        tags = (token[2:-8] for token in tokens if token.startswith("<|") and token.endswith("_start|>"))
        return sorted(tag for tag in tags if _is_view_tag(tag) and tokens.issuperset(view_tokens(tag)))


def _is_view_tag(tag: str) -> bool:
    try:
        return check_view_tag(tag) == tag
    except SettingError:
        return False
