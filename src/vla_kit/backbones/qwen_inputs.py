"""Observations to the tensors of a Qwen vision-language model: token ids, rotary positions, patches."""

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import accumulate
from typing import Final

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Qwen2VLImageProcessor

from vla_kit.backbones.chat import answer_labels, as_template_messages, pictures, render_chat, write_template
from vla_kit.backbones.frames import HistoryLayout, ViewFrames, as_images, as_videos, merge_frames, patch_seconds
from vla_kit.backbones.images import view_image
from vla_kit.backbones.packing import fill_rows, packed_layout
from vla_kit.backbones.vocabulary import known_view_tags
from vla_kit.embodiment.views import wrap_view
from vla_kit.errors import CheckpointError, SettingError, ShapeError
from vla_kit.losses.language import IGNORED_LABEL
from vla_kit.protocols import Conversation, Observation

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
    """Turn observations and conversations into the tensors of a Qwen model; no network, cheap to send to data workers.

    Conversations are written by the chat template, token for token as the model's own processor would, and the answers
    in them are labelled, see `answer_labels`. A picture of a camera stands between the boundary tokens of its view.

    Each view of an observation becomes `<|tag_start|><|vision_start|>patches<|vision_end|><|tag_end|>`, in the order of
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
        chat_template: Jinja template of the model for conversations; `None` refuses them.
        row_tokens: Pack samples into rows of at most so many tokens, or of the longest sample, see `fill_rows`. `None`
            gives every sample a row and pads it.

    Raises:
        SettingError: If `image_size` is not a whole number of merged patches, `video` has no placeholder, a count is
            below 1, a token id is negative, `tokens_per_second` is not above 0, or `chat_template` is empty.

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
        chat_template: str | None = None,
        row_tokens: int | None = None,
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
        if row_tokens is not None and row_tokens < 1:
            raise SettingError(f"row_tokens must be at least 1, got {row_tokens}. Use a few times the longest sample.")
        if context_length < 1:
            raise SettingError(f"context_length must be at least 1, got {context_length}. Take that of the model.")
        if len(vision_token_ids) != 3:
            raise SettingError(
                f"vision_token_ids must be those of vision start, placeholder and vision end, got {vision_token_ids}. "
                "Take them from the configuration of the model."
            )
        for name, token_id in (("padding_id", padding_id), ("video_token_id", video_token_id)):
            if token_id is not None and token_id < 0:
                raise SettingError(f"{name} must be at least 0, got {token_id}. Take an id of the vocabulary.")
        if tokens_per_second is not None and not 0 < tokens_per_second < float("inf"):
            raise SettingError(
                f"tokens_per_second must be above 0 and finite, got {tokens_per_second}. Take that of the model."
            )
        if chat_template is not None and not chat_template.strip():
            raise SettingError(
                f"chat_template must hold a Jinja template, got {chat_template!r}. Leave it out for a model without."
            )
        self.image_processor = image_processor
        self.vision_token_ids = vision_token_ids
        self.context_length = context_length
        self.image_size = image_size
        self.padding_id = padding_id
        self.history = history
        self.video_token_id = video_token_id
        self.tokens_per_second = tokens_per_second
        self.chat_template = chat_template
        self.row_tokens = row_tokens
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
        self._special = frozenset(
            number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special
        )

    def __call__(
        self, observations: Sequence[Observation | Conversation], *, with_labels: bool = False
    ) -> dict[str, Tensor]:
        """Tokens, positions and patches of a batch.

        Args:
            observations: At least one; samples may have different views and frames, or none.
            with_labels: Whether to say which tokens a language loss asks for.

        Returns:
            `input_ids` [batch token], `attention_mask` [batch token] bool, `position_ids` [axis batch token] and, where
            the batch holds an image, `pixel_values` [patch, features of a patch] and `image_grid_thw` [image, 3], where
            it holds a video, `pixel_values_videos` and `video_grid_thw`. With labels also `labels` [batch token]: the
            token where it is an answer's, else -100, unshifted. Packed, a token axis is that of rows in place of
            samples, and the entries of `packed_layout` say where the samples stand.

        Raises:
            ShapeError: If there is no observation, or a view is neither `[3, height, width]` nor
                `[frame, 3, height, width]`.
            DtypeError: If an image is not uint8.
            SettingError: If a view tag is not in the vocabulary, a prompt or message contains a placeholder, the rate
                of a video is missing, a sequence is empty or longer than the context, or a conversation cannot be
                written by the chat template.
        """
        if not observations:
            raise ShapeError("observations must hold at least one observation, got 0. Drop empty batches.")
        shown = [
            self._conversation_views(one, index) if isinstance(one, Conversation) else self._observed_views(one)
            for index, one in enumerate(observations)
        ]
        entries = [entry for one in shown for entry in one]
        images, image_grids = self._images([entry for entry in entries if not entry.video])
        videos, video_grids = self._videos([entry for entry in entries if entry.video])

        sequences = []
        for index, (observation, own) in enumerate(zip(observations, shown, strict=True)):
            placed = [(entry, next(video_grids if entry.video else image_grids)) for entry in own]
            if isinstance(observation, Conversation):
                sequence = self._converse(observation, placed, index)
            else:
                sequence = self._observe(observation, placed, index)
            if not 0 < len(sequence.ids) <= self.context_length:
                raise SettingError(
                    f"prompt and views must make 1 to {self.context_length} tokens, got {len(sequence.ids)} in "
                    f"observation {index}. Shorten the prompt, use fewer or smaller views or frames, or a model with a "
                    "longer context."
                )
            sequences.append(sequence)
        lengths = [len(sequence.ids) for sequence in sequences]
        if self.row_tokens is None:
            mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
            rows: Sequence[Sequence[int]] = [[index] for index in range(len(sequences))]
            layout = {"attention_mask": mask}
        else:
            rows = fill_rows(lengths, capacity=self.row_tokens)
            layout = packed_layout(lengths, rows)
            order = [index for row in rows for index in row]  # the model takes patches in the order of the tokens
            images = _reordered(images, "pixel_values", "image_grid_thw", [_count(own, False) for own in shown], order)
            videos = _reordered(
                videos, "pixel_values_videos", "video_grid_thw", [_count(own, True) for own in shown], order
            )
        tokens = self._tokens([[sequences[index] for index in row] for row in rows], with_labels=with_labels)
        return {**tokens, **layout, **images, **videos}

    def _tokens(self, rows: "Sequence[Sequence[_Sequence]]", *, with_labels: bool) -> dict[str, Tensor]:
        """Rows of one sequence or several, padded on the right."""
        length = max(sum(len(sequence.ids) for sequence in row) for row in rows)
        input_ids = torch.full((len(rows), length), self.padding_id)
        position_ids = torch.zeros(3, len(rows), length, dtype=torch.long)
        labels = torch.full((len(rows), length), IGNORED_LABEL)
        for number, row in enumerate(rows):
            start = 0
            for sequence in row:
                own = slice(start, start := start + len(sequence.ids))
                input_ids[number, own] = torch.tensor(sequence.ids)
                position_ids[:, number, own] = _cached_positions(tuple(sequence.pieces))
                labels[number, own] = torch.tensor(sequence.labels)
                labels[number, own.start] = IGNORED_LABEL  # nothing before it predicts it
        made = {"input_ids": input_ids, "position_ids": position_ids}
        return {**made, "labels": labels} if with_labels else made

    def _observed_views(self, observation: Observation) -> list[ViewFrames]:
        """Views of an observation, in the layout of its history."""
        views = observation.views.items()
        return _LAYOUTS[self.history]({tag: view_image(tag, view, self.image_size) for tag, view in views})

    def _conversation_views(self, conversation: Conversation, index: int) -> list[ViewFrames]:
        """Pictures of a conversation, in their order."""
        shown = []
        for picture in pictures(conversation):
            pixels = view_image(picture.view or "picture", picture.pixels, self.image_size)
            video = pixels.ndim == 4
            if video and self.video_token_id is None:
                raise SettingError(
                    f"pictures must be images without a video_token_id, got a video in observation {index}. Give the "
                    "token id too."
                )
            if picture.view is not None:
                self._view(picture.view)  # refuses a tag that the vocabulary lacks
            frames = pixels if video else pixels[None]
            shown.append(ViewFrames(tag=picture.view or "", frames=frames, video=video, rate_hz=picture.rate_hz))
        return shown

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

    def _observe(
        self, observation: Observation, placed: Sequence[tuple[ViewFrames, Sequence[int]]], index: int
    ) -> "_Sequence":
        """Views between their boundaries, and the prompt."""
        sequence = _Sequence()
        for entry, grid in placed:
            start, vision_start, vision_end, end = self._view(entry.tag)
            if entry.before:
                sequence.text(self._encode(entry.before))
            sequence.text([start])
            rate_hz = observation.frame_rate_hz
            for seconds, patches in self._pieces(entry, grid, rate_hz, f"{entry.tag!r} in observation {index}"):
                sequence.text([*self._encode(seconds), vision_start])
                sequence.patches(self._placeholder(entry), patches)
                sequence.text([vision_end])
            sequence.text([end])
        self._refuse_placeholders(observation.prompt, "prompt", index)
        sequence.text(self._encode(observation.prompt))
        return sequence

    def _converse(
        self, conversation: Conversation, placed: Sequence[tuple[ViewFrames, Sequence[int]]], index: int
    ) -> "_Sequence":
        """What the chat template makes of the messages, and which of it is an answer."""
        if self.chat_template is None:
            raise SettingError(
                f"chat_template must be given where a batch holds conversations, got None and one in observation "
                f"{index}. Use a model whose processor has one, or give its Jinja text."
            )
        for message in conversation.messages:
            for text in message.content:
                if isinstance(text, str):
                    self._refuse_placeholders(text, "messages", index)
        pieces = [
            self._pieces(entry, grid, entry.rate_hz, f"picture {number} in observation {index}")
            for number, (entry, grid) in enumerate(placed)
        ]
        videos = iter([own for (entry, _), own in zip(placed, pieces, strict=True) if entry.video])
        start, _, end = (self._content(token) for token in self.vision_token_ids)
        placeholder = "" if self.video_token_id is None else f"{start}{self._content(self.video_token_id)}{end}"

        def timed(text: str) -> str:
            """Text with the seconds of each video; it keeps one placeholder per time.

            The timed patches stand in place of all three tokens of the template, as in the processor that Qwen3-VL came
            with; transformers 5.23 and 5.24 leave the outer two around them.
            """
            plain, *rest = text.split(placeholder) if placeholder else [text]
            return plain + "".join(
                "".join(f"{seconds}{placeholder}" for seconds, _ in next(videos)) + part for part in rest
            )

        write = partial(write_template, self.chat_template)
        text, answers = render_chat(as_template_messages(conversation), apply=write, rewrite=timed)
        encoded = self.tokenizer.encode(text, add_special_tokens=False)
        labels = answer_labels(encoded.ids, encoded.offsets, answers, special=self._special)
        grids = iter(
            [patches for own in pieces for _, patches in own]
        )  # images and videos come in the order of the text
        sequence = _Sequence()
        for token, label in zip(encoded.ids, labels, strict=True):
            if token in (self.vision_token_ids[1], self.video_token_id):
                sequence.patches(token, next(grids))
            else:
                sequence.text([token], [label])
        return sequence

    def _placeholder(self, entry: ViewFrames) -> int:
        if not entry.video:
            return self.vision_token_ids[1]
        assert self.video_token_id is not None  # noqa: S101 - constructor and views saw to it
        return self.video_token_id

    def _pieces(
        self, entry: ViewFrames, grid: Sequence[int], rate_hz: float | None, where: str
    ) -> list[tuple[str, _Grid]]:
        """Runs of patches of a picture, and the text that tells the time of each."""
        merge = self.image_processor.merge_size
        times, rows, columns = grid[0], grid[1] // merge, grid[2] // merge
        if not entry.video:
            return [("", (rows, columns))]
        rate_hz = _rate(rate_hz, len(entry.frames), where)
        temporal = self.image_processor.temporal_patch_size
        if self.tokens_per_second is not None:
            step = self.tokens_per_second * torch.tensor(temporal / rate_hz)  # float32, as in transformers
            return [("", (rows, columns, tuple((torch.arange(times) * step).long().tolist())))]
        seconds = patch_seconds(len(entry.frames), rate_hz=rate_hz, temporal_patch_size=temporal)
        return [(f"<{second:.1f} seconds>", (rows, columns)) for second in seconds]

    def _refuse_placeholders(self, text: str, argument: str, index: int) -> None:
        for token in (self.vision_token_ids[1], self.video_token_id):
            if token is not None and (placeholder := self._content(token)) in text:
                raise SettingError(
                    f"{argument} must not contain {placeholder!r}, got it in observation {index}. Give images as views."
                )

    def _content(self, token: int) -> str:
        return str(self.tokenizer.id_to_token(token))

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


def _count(shown: Sequence[ViewFrames], video: bool) -> int:
    return sum(entry.video == video for entry in shown)


def _reordered(
    tensors: dict[str, Tensor], patches: str, grids: str, counts: Sequence[int], order: Sequence[int]
) -> dict[str, Tensor]:
    """Patches of samples in another order of the samples, of which each has some pictures."""
    if not tensors:
        return tensors
    ends = list(accumulate(counts))
    chosen = [place for sample in order for place in range(ends[sample] - counts[sample], ends[sample])]
    split = tensors[patches].split(tensors[grids].prod(1).tolist())
    return {patches: torch.cat([split[place] for place in chosen]), grids: tensors[grids][chosen]}


def _rate(rate_hz: float | None, frames: int, where: str) -> float:
    """Frames per second of a video; of one frame any will do."""
    if rate_hz is None and frames > 1:
        raise SettingError(
            f"frame_rate_hz must be given where a video has several frames, got None for {where}. Say how many frames "
            "of the view are a second, such as 2.0."
        )
    if rate_hz is not None and not 0 < rate_hz < float("inf"):
        raise SettingError(
            f"frame_rate_hz must be above 0 and finite, got {rate_hz} for {where}. Give frames per second, such as 2.0."
        )
    return 1.0 if rate_hz is None else rate_hz


class _Sequence:
    """Token ids of one sample, what they are for the rotary positions, and which of them are learned."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.pieces: list[int | _Grid] = []
        self.labels: list[int] = []

    def text(self, ids: Sequence[int], labels: Sequence[int] | None = None) -> None:
        self.ids += ids
        self.labels += [IGNORED_LABEL] * len(ids) if labels is None else labels
        if self.pieces and isinstance(self.pieces[-1], int):
            self.pieces[-1] += len(ids)
        else:
            self.pieces.append(len(ids))

    def patches(self, placeholder: int, grid: _Grid) -> None:
        count = grid[0] * grid[1] * (len(grid[2]) if len(grid) == 3 else 1)
        self.ids += [placeholder] * count
        self.labels += [IGNORED_LABEL] * count
        self.pieces.append(grid)
