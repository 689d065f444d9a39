"""Boundary texts around images, which tell a policy the camera or the instant of each image."""

import re

from vla_kit.errors import SettingError

__all__ = ["check_view_tag", "frame_token", "view_tokens", "wrap_view"]

_TAG = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_RESERVED = frozenset({"audio", "box", "im", "object_ref", "quad", "vision"})


def check_view_tag(tag: str) -> str:
    """Return `tag` if it may name a camera view.

    Args:
        tag: Lower-case words joined by underscores, such as `cam_left_wrist`. Words whose boundaries are already
            special tokens of a Qwen tokenizer (`audio`, `box`, `im`, `object_ref`, `quad`, `vision`) are refused.

    Returns:
        The tag itself.

    Raises:
        SettingError: If the tag has another form or is reserved.

    Examples:
        >>> check_view_tag("cam_left_wrist")
        'cam_left_wrist'

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1, names `ego`, `cam_left_wrist` and `cam_right_wrist` as examples;
        the rule is ours.
    """
    if not _TAG.fullmatch(tag):
        raise SettingError(
            f"tag must be lower-case words joined by underscores, got {tag!r}. Write it like 'cam_left_wrist'."
        )
    if tag in _RESERVED:
        raise SettingError(
            f"tag must not be one of {sorted(_RESERVED)}, got {tag!r}. "
            f"<|{tag}_start|> already means something to the Qwen tokenizer; choose another word."
        )
    return tag


def view_tokens(tag: str) -> tuple[str, str]:
    """The texts before and after the image of one camera.

    Args:
        tag: Name of the view, see `check_view_tag`.

    Returns:
        Start and end.

    Raises:
        SettingError: If the tag is not allowed.

    Examples:
        >>> view_tokens("ego")
        ('<|ego_start|>', '<|ego_end|>')

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1. The paper does not say whether they are new vocabulary entries;
        here they are plain text, and a backbone may add them to its vocabulary.
    """
    check_view_tag(tag)
    return f"<|{tag}_start|>", f"<|{tag}_end|>"


def wrap_view(tag: str, image_placeholder: str) -> str:
    """Put the boundaries of a view around the text that stands for its image.

    Args:
        tag: Name of the view, see `check_view_tag`.
        image_placeholder: Text that the backbone's processor replaces by image tokens.

    Returns:
        Start, placeholder and end, without spaces between.

    Raises:
        SettingError: If the tag is not allowed.

    Examples:
        >>> wrap_view("ego", "<|vision_start|><|image_pad|><|vision_end|>")
        '<|ego_start|><|vision_start|><|image_pad|><|vision_end|><|ego_end|>'

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1.
    """
    start, end = view_tokens(tag)
    return f"{start}{image_placeholder}{end}"


def frame_token(index: int) -> str:
    """The text before the images of one instant of a video or history.

    Args:
        index: Place of the instant in the sequence, 0 for the oldest.

    Returns:
        A marker that stands once before all views of the instant, so it combines with `wrap_view`.

    Raises:
        SettingError: If `index` is negative.

    Examples:
        >>> frame_token(0) + wrap_view("ego", "IMG") + frame_token(1) + wrap_view("ego", "IMG")
        '<|frame_0|><|ego_start|>IMG<|ego_end|><|frame_1|><|ego_start|>IMG<|ego_end|>'

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.5 says only that multi-frame driving questions carry frame tags;
        their form, and counting from 0, are ours.
    """
    if index < 0:
        raise SettingError(f"index must be at least 0, got {index}. Count from the oldest frame.")
    return f"<|frame_{index}|>"
