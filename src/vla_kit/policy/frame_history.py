"""The earlier pictures of a running episode, kept for a policy that sees a history."""

from collections import deque
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from vla_kit.embodiment import History
from vla_kit.errors import SettingError, ShapeError
from vla_kit.policy.observation import image_tensor

__all__ = ["FrameHistory"]


class FrameHistory:
    """Collects the pictures of each control step and gives those that the policy saw in training, by the same rule.

    It keeps every picture back to the oldest that will be asked for, since the policy may look at any step: 8 frames at
    2 Hz of a loop at 10 Hz are 36 pictures, 16 MB of 384 x 384 pixels. One history serves one robot.

    Args:
        history: Which frames the policy sees, as in the `history` of its training data; `History.within` makes one of a
            budget of tokens.
        control_hz: How often `add` is called a second.

    Raises:
        SettingError: If `control_hz` is below the rate of the history, or not finite.

    Examples:
        >>> seen = FrameHistory(History(frames=3, rate_hz=5), control_hz=10)
        >>> for step in range(6):
        ...     seen.add({"ego": np.full((4, 4, 3), step, dtype=np.uint8)})
        >>> seen.views()["ego"][:, 0, 0, 0]
        tensor([1, 3, 5], dtype=torch.uint8)

    Source:
        Qwen-VLA, arXiv 2605.30280, section 5.1.5: navigation is conditioned on video at 2 frames per second. How many
        frames is not said; a re-implementation uses eight, the authors' navigation model (Qwen-RobotNav,
        arXiv 2606.18112) a budget of 2,048 to 4,096 tokens.
    """

    def __init__(self, history: History, *, control_hz: float) -> None:
        self.history = history
        self.control_hz = control_hz
        self._seen: deque[dict[str, Tensor]] = deque(maxlen=history.offsets(recorded_hz=control_hz)[-1] + 1)

    def __len__(self) -> int:
        """Pictures kept of each view."""
        return len(self._seen)

    def reset(self) -> None:
        """Forget everything, as a new episode wants."""
        self._seen.clear()

    def add(self, views: Mapping[str, np.ndarray | Tensor]) -> None:
        """Keep a copy of the pictures of a control step.

        Args:
            views: View tag -> RGB picture, uint8, colour last or first; the same views of the same sizes in every step
                of an episode.

        Raises:
            ShapeError: If a picture has no colour axis, or views or sizes differ from those before.
            DtypeError: If a picture is not uint8.
        """
        pictures = {tag: image_tensor(picture, tag=tag).clone() for tag, picture in views.items()}
        shapes = {tag: tuple(picture.shape) for tag, picture in pictures.items()}
        before = {tag: tuple(picture.shape) for tag, picture in self._seen[-1].items()} if self._seen else shapes
        if shapes != before:
            raise ShapeError(
                f"views must have the tags and shapes of the step before, {before}, got {shapes}. Call reset where an "
                "episode begins."
            )
        self._seen.append(pictures)

    def views(self) -> dict[str, UInt8[Tensor, "frame 3 height image_width"]]:
        """The history at the newest step, for `PolicyObservation.views`; give `history.rate_hz` as its frame rate.

        Returns:
            View tag -> pictures, oldest first; fewer at the start of an episode.

        Raises:
            SettingError: If nothing was added since the start of the episode.
        """
        if not self._seen:
            raise SettingError("views must come after add, got no picture of this episode. Call add in every step.")
        places = self.history.indices(len(self._seen) - 1, recorded_hz=self.control_hz)
        chosen = [self._seen[place] for place in places]
        return {tag: torch.stack([pictures[tag] for pictures in chosen]) for tag in chosen[-1]}
