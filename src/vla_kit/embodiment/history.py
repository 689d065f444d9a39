"""Which earlier frames a policy sees beside the present one, in training and on the robot alike."""

import math
from dataclasses import dataclass

from vla_kit.errors import SettingError

__all__ = ["History"]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Frames at even distances, up to the present one.

    Args:
        frames: Most frames of a view, the present one included. At the start of an episode there are fewer: none is
            repeated and none is black.
        rate_hz: Frames per second, at most the rate of the recording.

    Raises:
        SettingError: If `frames` is below 1 or `rate_hz` is not above 0.

    Examples:
        >>> History(frames=4, rate_hz=2).indices(23, recorded_hz=10)
        [8, 13, 18, 23]
        >>> History(frames=4, rate_hz=2).indices(6, recorded_hz=10)
        [1, 6]

    Source:
        Qwen-VLA, arXiv 2605.30280, sections 3.2.4 and 5.1.5: navigation sees video at 2 frames per second, manipulation
        the present frame alone. The paper does not say how many frames, nor what stands before the first one.
    """

    frames: int
    rate_hz: float

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise SettingError(f"frames must be at least 1, got {self.frames}. Count the present frame too.")
        if not 0 < self.rate_hz < float("inf"):
            raise SettingError(f"rate_hz must be above 0 and finite, got {self.rate_hz}. Use 2 as the paper does.")

    @classmethod
    def within(cls, max_tokens: int, *, tokens_per_frame: int, rate_hz: float) -> "History":
        """As many frames as a budget of tokens allows.

        Args:
            max_tokens: Budget of all frames together, such as 2048 or 4096.
            tokens_per_frame: Tokens of one instant: of all its views, with the boundaries around them. A 224 x 224
                image has 49 in Qwen3.5; as a video, whose frames are merged in pairs, half as many.
            rate_hz: Frames per second.

        Returns:
            The history.

        Raises:
            SettingError: If not even the present frame fits, or `rate_hz` is not above 0.

        Examples:
            >>> History.within(2048, tokens_per_frame=60, rate_hz=2).frames
            34
        """
        if not 1 <= tokens_per_frame <= max_tokens:
            raise SettingError(
                f"tokens_per_frame must lie in [1, {max_tokens}], the budget, got {tokens_per_frame}. Use smaller "
                "images or a larger budget."
            )
        return cls(frames=max_tokens // tokens_per_frame, rate_hz=rate_hz)

    def offsets(self, *, recorded_hz: float) -> list[int]:
        """How many recorded frames back each frame lies, the present first.

        Args:
            recorded_hz: Frames per second of the recording, or of the control loop.

        Returns:
            Rising distances, rounded to whole frames, 0 first.

        Raises:
            SettingError: If the recording is slower than the history, which would repeat frames, or its rate is not
                finite.

        Examples:
            >>> History(frames=4, rate_hz=2).offsets(recorded_hz=5)
            [0, 3, 5, 8]
        """
        if not recorded_hz < math.inf:  # nor NaN
            raise SettingError(f"recorded_hz must be finite, got {recorded_hz}. Give frames per second.")
        if recorded_hz < self.rate_hz:
            raise SettingError(
                f"rate_hz must be at most the recorded {recorded_hz} Hz, got {self.rate_hz} Hz, for frames would "
                f"repeat. Use {recorded_hz} or less."
            )
        return [math.floor(back * recorded_hz / self.rate_hz + 0.5) for back in range(self.frames)]

    def indices(self, frame: int, *, recorded_hz: float) -> list[int]:
        """Frames to show at one frame of an episode.

        Args:
            frame: The present frame, counted from the start of the episode.
            recorded_hz: Frames per second of the recording.

        Returns:
            Frames of the episode, oldest first, the present last.

        Raises:
            SettingError: As `offsets`.
        """
        return [frame - back for back in reversed(self.offsets(recorded_hz=recorded_hz)) if back <= frame]
