"""Observations to the tensors of a Qwen vision-language model: token ids, rotary positions, patches."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Qwen2VLImageProcessor

from vla_kit.backbones.frames import HistoryLayout, ViewFrames, as_images, as_videos, merge_frames, patch_seconds
from vla_kit.backbones.images import view_image
from vla_kit.backbones.vocabulary import known_view_tags
from vla_kit.embodiment.views import wrap_view
from vla_kit.errors import CheckpointError, SettingError, ShapeError
from vla_kit.protocols import Observation

__all__ = ["QwenInputs", "mrope_positions"]

_Grid = tuple[int, int] | tuple[int, int, tuple[int, ...]]
_LAYOUTS: Final = {"images": as_images, "video": as_videos}


def mrope_positions(pieces: Sequence[int | _Grid]) -> Tensor:
    """Three-axis rotary positions of one sequence of text runs, images and videos.

    A text run of `n` tokens takes `n` positions, equal on all axes. An image of `rows x columns` merged patches keeps
    one time position, spreads rows and columns over the other two axes, and advances all of them by its longer side.
    A video is as many images, each at its own time position, and advances as one image does.

    Args:
        pieces: In order of the sequence: an `int` is the length of a text run, a pair the (rows, columns) of an image,
            a triple the (rows, columns, times) of a video, times counted from its first position.

    Returns:
        Positions [axis token] on the axes time, height, width.

    Examples:
        >>> mrope_positions([1, (2, 2), 1])
        tensor([[0, 1, 1, 1, 1, 3],
                [0, 1, 1, 2, 2, 3],
                [0, 1, 2, 1, 2, 3]])
        >>> mrope_positions([1, (1, 2, (0, 2)), 1])
        tensor([[0, 1, 1, 3, 3, 3],
                [0, 1, 1, 1, 1, 3],
                [0, 1, 2, 1, 2, 3]])

    Source:
        Multimodal rotary positions of Qwen2-VL (arXiv 2409.12191, section 2.1), as `get_rope_index` of transformers
        computes them; the tests compare the two. The paper lets text continue after the largest position of a video,
        transformers after its longer side; they differ for videos of more time positions than that, and we follow
        transformers.
    """
    start, parts = 0, []
    for piece in pieces:
        if isinstance(piece, int):
            parts.append(torch.arange(start, start + piece).expand(3, -1))
            start += piece
        else:
            rows, columns = piece[:2]
            times = torch.tensor(piece[2] if len(piece) == 3 else (0,))
            grid = torch.empty(3, len(times), rows, columns, dtype=torch.long)
            grid[0] = (start + times)[:, None, None]
            grid[1] = torch.arange(start, start + rows)[:, None]
            grid[2] = torch.arange(start, start + columns)
            parts.append(grid.flatten(1))
            start += max(rows, columns)
    return torch.cat(parts, dim=1)


@lru_cache(maxsize=256)
def _cached_positions(pieces: tuple[int | _Grid, ...]) -> Tensor:
    return mrope_positions(pieces)


class QwenInputs:
    """Turn observations into the tensors of a Qwen model; no network, cheap to send to data workers.

    Each view becomes `<|tag_start|><|vision_start|>patches<|vision_end|><|tag_end|>`, in the order of
    `Observation.views`; the prompt follows. Padding is on the right.

    Where a view has several frames, `history` says how they are written:

    - `images`: instant by instant, oldest first, each behind its frame tag and with the views of that instant, as in
      `<|frame_0|><|ego_start|>...<|ego_end|><|frame_1|><|ego_start|>...<|ego_end|>`. Frame tags are plain text.
    - `video`: a view is one video, whose frames are merged in pairs as the model's own processor does. Qwen3-VL and
      Qwen3.5 get `<|ego_start|><0.2 seconds><|vision_start|>patches<|vision_end|><1.2 seconds>...<|ego_end|>`, counted
      from the oldest frame; Qwen2.5-VL gets one run of patches whose rotary positions tell the time. An odd number of
      frames ends with the newest one twice. Half as many tokens as `images`.

    Args:
        tokenizer: Vocabulary with the tokens of every view tag in it.
        image_processor: Patch, merge and normalisation constants of the vision tower.
        vision_token_ids: Ids of (vision start, image placeholder, vision end).
        context_length: Longest sequence that the model takes [token].
        image_size: Side to which every image is resized, square [pixel]; `None` keeps the aspect ratio and lets
            the image processor choose the size from the number of pixels, as Qwen does; a frame of a video gets the
            size of an image.
        padding_id: Token id in padded places; never read.
        history: How views of several frames are written.
        video_token_id: Id of the placeholder of videos; `video` needs it.
        tokens_per_second: Time positions of a second of video, as Qwen2.5-VL has them; `None` writes the seconds as
            text, as later models do.

    Raises:
        SettingError: If `image_size` is not a whole number of merged patches, or `video` has no placeholder.

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1: view boundary tokens; sections 3.2.4 and 3.2.5: video history and
        frame tags. The paper is silent on whether they are vocabulary entries (here view boundaries are, frame tags
        are not), on the order of views (the observation's), on the layout of a history, and on a chat template (none).
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
        history: HistoryLayout = "images",
        video_token_id: int | None = None,
        tokens_per_second: float | None = None,
    ) -> None:
        cell = image_processor.patch_size * image_processor.merge_size
        if image_size is not None and (image_size < cell or image_size % cell):
            raise SettingError(
                f"image_size must be a multiple of patch size times merge size ({cell}), got {image_size}. "
                f"Use {max(cell, image_size // cell * cell)}."
            )
        if history not in _LAYOUTS:
            raise SettingError(f"history must be one of {list(_LAYOUTS)}, got {history!r}. Use 'images'.")
        if history == "video" and video_token_id is None:
            raise SettingError("history must be 'images' without a video_token_id, got 'video'. Give the token id too.")
        self.image_processor = image_processor
        self.vision_token_ids = vision_token_ids
        self.context_length = context_length
        self.image_size = image_size
        self.padding_id = padding_id
        self.history = history
        self.video_token_id = video_token_id
        self.tokens_per_second = tokens_per_second
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
        self._view_ids: dict[str, tuple[int, int, int, int]] = {}

    def __call__(self, observations: Sequence[Observation]) -> dict[str, Tensor]:
        """Tokens, positions and patches of a batch.

        Args:
            observations: At least one; samples may have different views and frames, or none.

        Returns:
            `input_ids` [batch token], `attention_mask` [batch token] bool, `position_ids` [axis batch token] and, where
            the batch holds an image, `pixel_values` [patch, features of a patch] and `image_grid_thw` [image, 3], where
            it holds a video, `pixel_values_videos` and `video_grid_thw`.

        Raises:
            ShapeError: If there is no observation, or a view is neither `[3, height, width]` nor
                `[frame, 3, height, width]`.
            DtypeError: If an image is not uint8.
            SettingError: If a view tag is not in the vocabulary, a prompt contains a placeholder, the rate of a video
                is missing, or a sequence is empty or longer than the context.
        """
        if not observations:
            raise ShapeError("observations must hold at least one observation, got 0. Drop empty batches.")
        layout = _LAYOUTS[self.history]
        shown = [
            layout({tag: view_image(tag, view, self.image_size) for tag, view in one.views.items()})
            for one in observations
        ]
        entries = [entry for one in shown for entry in one]
        images, image_grids = self._images([entry for entry in entries if not entry.video])
        videos, video_grids = self._videos([entry for entry in entries if entry.video])

        sequences, positions = [], []
        for index, (observation, own) in enumerate(zip(observations, shown, strict=True)):
            sequence = _Sequence()
            for entry in own:
                self._write(sequence, entry, next(video_grids if entry.video else image_grids), observation, index)
            sequence.text(self._prompt(observation.prompt, index))
            if not 0 < len(sequence.ids) <= self.context_length:
                raise SettingError(
                    f"prompt and views must make 1 to {self.context_length} tokens, got {len(sequence.ids)} in "
                    f"observation {index}. Shorten the prompt, use fewer or smaller views or frames, or a model with a "
                    "longer context."
                )
            sequences.append(sequence.ids)
            positions.append(_cached_positions(tuple(sequence.pieces)))
        length = max(len(ids) for ids in sequences)
        input_ids = torch.full((len(sequences), length), self.padding_id)
        mask = torch.zeros(len(sequences), length, dtype=torch.bool)
        position_ids = torch.zeros(3, len(sequences), length, dtype=torch.long)
        for index, (ids, position) in enumerate(zip(sequences, positions, strict=True)):
            input_ids[index, : len(ids)] = torch.tensor(ids)
            mask[index, : len(ids)] = True
            position_ids[:, index, : len(ids)] = position
        return {"input_ids": input_ids, "attention_mask": mask, "position_ids": position_ids, **images, **videos}

    def _process(self, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Patches of images, and the grid of each."""
        processed = self.image_processor(list(images), do_resize=self.image_size is None, return_tensors="pt")
        return processed["pixel_values"], processed["image_grid_thw"]

    def _images(self, entries: Sequence[ViewFrames]) -> tuple[dict[str, Tensor], Iterator[list[int]]]:
        """Tensors of all images, and the grid of each."""
        if not entries:
            return {}, iter(())
        patches, grids = self._process([entry.frames[0] for entry in entries])
        return {"pixel_values": patches, "image_grid_thw": grids}, iter(grids.tolist())

    def _videos(self, entries: Sequence[ViewFrames]) -> tuple[dict[str, Tensor], Iterator[list[int]]]:
        """Tensors of all videos, and the grid of each."""
        if not entries:
            return {}, iter(())
        temporal = self.image_processor.temporal_patch_size
        patches, grids = self._process([frame for entry in entries for frame in entry.frames])
        frames = patches.split(grids.prod(1).tolist())
        merged, video_grids, first = [], [], 0
        for entry in entries:
            own = torch.stack(frames[first : first + len(entry.frames)])
            merged.append(merge_frames(own, temporal_patch_size=temporal))
            video_grids.append([-(-len(own) // temporal), *grids[first, 1:].tolist()])
            first += len(own)
        tensors = {"pixel_values_videos": torch.cat(merged), "video_grid_thw": torch.tensor(video_grids)}
        return tensors, iter(video_grids)

    def _write(
        self, sequence: "_Sequence", entry: ViewFrames, grid: Sequence[int], observation: Observation, index: int
    ) -> None:
        """Append a view: boundaries, placeholders and whatever tells the time."""
        merge = self.image_processor.merge_size
        times, rows, columns = grid[0], grid[1] // merge, grid[2] // merge
        start, vision_start, vision_end, end = self._view(entry.tag)
        if entry.before:
            sequence.text(self._encode(entry.before))
        if not entry.video:
            sequence.text([start, vision_start])
            sequence.patches(self.vision_token_ids[1], (rows, columns))
            sequence.text([vision_end, end])
            return
        assert self.video_token_id is not None  # noqa: S101 - the constructor saw to it
        rate_hz = self._rate(entry, observation, index)
        temporal = self.image_processor.temporal_patch_size
        if self.tokens_per_second is not None:
            step = self.tokens_per_second * torch.tensor(temporal / rate_hz)  # float32, as in transformers
            sequence.text([start, vision_start])
            sequence.patches(self.video_token_id, (rows, columns, tuple((torch.arange(times) * step).long().tolist())))
            sequence.text([vision_end, end])
            return
        sequence.text([start])
        for seconds in patch_seconds(len(entry.frames), rate_hz=rate_hz, temporal_patch_size=temporal):
            sequence.text([*self._encode(f"<{seconds:.1f} seconds>"), vision_start])
            sequence.patches(self.video_token_id, (rows, columns))
            sequence.text([vision_end])
        sequence.text([end])

    def _rate(self, entry: ViewFrames, observation: Observation, index: int) -> float:
        """Frames per second of a video; of one frame any will do."""
        rate_hz = observation.frame_rate_hz
        if rate_hz is None and len(entry.frames) > 1:
            raise SettingError(
                f"frame_rate_hz must be given where history is 'video' and a view has several frames, got None for "
                f"{entry.tag!r} in observation {index}. Say how many frames of the view are a second, such as 2.0."
            )
        if rate_hz is not None and not 0 < rate_hz < float("inf"):
            raise SettingError(
                f"frame_rate_hz must be above 0 and finite, got {rate_hz} in observation {index}. Give frames per "
                "second, such as 2.0."
            )
        return 1.0 if rate_hz is None else rate_hz

    def _prompt(self, prompt: str, index: int) -> list[int]:
        """Token ids of a prompt."""
        ids = self._encode(prompt)
        for placeholder in (self.vision_token_ids[1], self.video_token_id):
            if placeholder in ids:
                raise SettingError(
                    f"prompt must not contain {self.tokenizer.id_to_token(placeholder)!r}, got it in observation "
                    f"{index}. Give images as views."
                )
        return ids

    def _view(self, tag: str) -> tuple[int, int, int, int]:
        """Token ids before and after the patches of one view: its start, vision start, vision end, its end."""
        if tag not in self._view_ids:
            start, placeholder, end = (self.tokenizer.id_to_token(token_id) for token_id in self.vision_token_ids)
            ids = self._encode(wrap_view(tag, f"{start}{placeholder}{end}"))
            if len(ids) != 5:
                raise SettingError(
                    f"views must have tags of the vocabulary {known_view_tags(self.tokenizer)}, got {tag!r}. "
                    "Name it in view_tags when the backbone is built."
                )
            self._view_ids[tag] = (ids[0], ids[1], ids[3], ids[4])
        return self._view_ids[tag]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids


class _Sequence:
    """Token ids of one observation, and what they are for the rotary positions."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.pieces: list[int | _Grid] = []

    def text(self, ids: Sequence[int]) -> None:
        self.ids += ids
        self.pieces.append(len(ids))

    def patches(self, placeholder: int, grid: _Grid) -> None:
        self.ids += [placeholder] * (grid[0] * grid[1] * (len(grid[2]) if len(grid) == 3 else 1))
        self.pieces.append(grid)
