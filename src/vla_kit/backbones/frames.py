"""How views of several frames enter a sequence: frame by frame as images, or each as one video."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from vla_kit.embodiment.views import frame_token

__all__ = ["HistoryLayout", "ViewFrames", "as_images", "as_videos", "merge_frames", "patch_seconds"]

HistoryLayout = Literal["images", "video"]
"""`images`: every frame is an image behind a frame tag. `video`: a view is a video, whose frames are merged in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewFrames:
    """What stands between the boundary tokens of a view, once.

    Args:
        tag: Name of the view.
        frames: One image, or the frames of a video, oldest first.
        video: Whether the frames are a video.
        before: Text before the boundary, such as a frame tag.
        rate_hz: Frames per second of a video, where it has its own.
    """

    tag: str
    frames: UInt8[Tensor, "frame 3 height image_width"]
    video: bool = False
    before: str = ""
    rate_hz: float | None = None


def as_images(views: Mapping[str, UInt8[Tensor, "*frame 3 height image_width"]]) -> list[ViewFrames]:
    """Every frame as an image, instant by instant: a frame tag, then the views of the instant in their order.

    The newest frames of all views are one instant, so that a view with fewer frames, such as one without a history,
    joins late. Without any history there are no frame tags.

    Args:
        views: View tag -> an image, or the frames of a history, oldest first.

    Returns:
        One image each, in the order of the sequence.

    Examples:
        >>> past, now = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, 4, 4, dtype=torch.uint8)
        >>> [(entry.before, entry.tag) for entry in as_images({"ego": past, "wrist": now})]
        [('<|frame_0|>', 'ego'), ('<|frame_1|>', 'ego'), ('', 'wrist')]

    Source:
        Qwen-VLA, arXiv 2605.30280, sections 3.2.4 and 3.2.5: history and frame tags. The paper shows no sequence; the
        order is ours.
    """
    if all(view.ndim == 3 for view in views.values()):
        return [ViewFrames(tag=tag, frames=view[None]) for tag, view in views.items()]
    stacks = {tag: view if view.ndim == 4 else view[None] for tag, view in views.items()}
    instants = max(map(len, stacks.values()))
    shown = []
    for instant in range(instants):
        before = frame_token(instant)
        for tag, frames in stacks.items():
            place = instant - instants + len(frames)
            if place >= 0:
                shown.append(ViewFrames(tag=tag, frames=frames[place : place + 1], before=before))
                before = ""
    return shown


def as_videos(views: Mapping[str, UInt8[Tensor, "*frame 3 height image_width"]]) -> list[ViewFrames]:
    """Every view once: a video where it has frames, an image where it is one.

    Args:
        views: View tag -> an image, or the frames of a history, oldest first.

    Returns:
        One entry per view, in their order.

    Examples:
        >>> past, now = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, 4, 4, dtype=torch.uint8)
        >>> [(entry.tag, entry.video, len(entry.frames)) for entry in as_videos({"ego": past, "wrist": now})]
        [('ego', True, 2), ('wrist', False, 1)]
    """
    return [
        ViewFrames(tag=tag, frames=view, video=True) if view.ndim == 4 else ViewFrames(tag=tag, frames=view[None])
        for tag, view in views.items()
    ]


def merge_frames(
    patches: Float[Tensor, "frame patch feature"], *, temporal_patch_size: int
) -> Float[Tensor, "video_patch feature"]:
    """Patches of a video from the patches of its frames as images.

    An image fills a temporal patch with copies of itself. In a video neighbours share one. Where the frames do not fill
    the last one, it repeats the newest frame, as Qwen's processor does; nothing else is ever repeated.

    Args:
        patches: Frames of one size, oldest first; a feature is `(channel time pixel)`.
        temporal_patch_size: Frames of a temporal patch.

    Returns:
        Patches `(time patch)` of the video.

    Examples:
        >>> frames = torch.arange(3.0)[:, None, None].expand(3, 1, 6)  # one patch of one pixel, three colours
        >>> merge_frames(frames, temporal_patch_size=2)
        tensor([[0., 1., 0., 1., 0., 1.],
                [2., 2., 2., 2., 2., 2.]])
    """
    missing = -len(patches) % temporal_patch_size
    whole = torch.cat([patches, patches[-1:].expand(missing, -1, -1)])
    alone = rearrange(whole, "frame patch (c time pixel) -> frame patch c time pixel", c=3, time=temporal_patch_size)
    return rearrange(
        alone[:, :, :, 0],
        "(video time) patch c pixel -> (video patch) (c time pixel)",
        time=temporal_patch_size,
    )


def patch_seconds(frames: int, *, rate_hz: float, temporal_patch_size: int) -> list[float]:
    """When the temporal patches of a video are: the mean of their first and last frame, from the oldest frame on.

    Args:
        frames: Frames of the video.
        rate_hz: Frames per second.
        temporal_patch_size: Frames of a temporal patch; the last one may be filled up with the newest frame.

    Returns:
        Seconds of each temporal patch.

    Examples:
        >>> patch_seconds(5, rate_hz=2.0, temporal_patch_size=2)
        [0.25, 1.25, 2.0]
    """
    last = frames - 1
    return [
        (first / rate_hz + min(first + temporal_patch_size - 1, last) / rate_hz) / 2
        for first in range(0, frames, temporal_patch_size)
    ]
