"""The one function that writes the text a policy reads, in training, evaluation, RL and serving alike."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from vla_kit.actions import ActionSpace
from vla_kit.embodiment.spec import EmbodimentSpec
from vla_kit.embodiment.state_text import check_bins, state_text
from vla_kit.errors import EmbodimentError, SettingError

__all__ = ["EmbodimentPrompter"]

_KINDS = {
    "eef_position": "end-effector position",
    "eef_rotation": "end-effector rotation",
    "joint": "joint",
    "gripper": "gripper",
    "base": "base",
    "waypoint": "waypoint",
    "hand": "hand",
}
_CLOSING_QUOTES = "\"')]\u00bb\u2019\u201d"
_FINAL_MARKS = (".", "!", "?", "\u2026", "\u3002", "\uff01", "\uff1f")  # with the ellipsis and the CJK marks


class EmbodimentPrompter:
    """Writes the embodiment sentence and the instruction of a robot as one prompt.

    Call it with an embodiment's name and an instruction. The instruction keeps its words; runs of white space become
    one space, a comma, colon or semicolon at the end is dropped, and no period follows an end that already has one.

    Args:
        specs: Robots that may be asked for, each with a name of its own.
        state_convention: Whether a sentence after the control frequency says what one action means. It tells apart
            two action types of one robot, which the paper's template cannot. Navigation prompts always say it.
        state_bins: Number of bins in which a state is written before the instruction, 256 in the paper; states stay out
            of the prompt where None, the paper's default.

    Raises:
        SettingError: If there is no spec, two share a name, or `state_bins` is below 2.

    Examples:
        >>> from vla_kit.embodiment.presets import preset
        >>> prompter = EmbodimentPrompter([preset("widowx")])
        >>> print(prompter("widowx", "put the carrot on the plate."))
        The robot is WidowX with single arm. The control frequency is 5 Hz. Please predict the next 16 control actions
        to execute the following task: put the carrot on the plate.

    Source:
        Qwen-VLA, arXiv 2605.30280, sections 2.3 and 3.2.1; the template is the paper's word for word. The text of the
        paper says that the prompt also states the control convention, but its template has no such field: the sentence
        is ours and off by default. For navigation the paper prints no template and says that the prompt is analogous
        and states convention and waypoint horizon: `waypoints` in place of `control actions` is our choice.
    """

    def __init__(
        self,
        specs: Sequence[EmbodimentSpec],
        *,
        state_convention: bool = False,
        state_bins: int | None = None,
    ) -> None:
        names = [spec.name for spec in specs]
        if not names:
            raise SettingError("specs must hold at least one EmbodimentSpec, got none. List the robots of the data.")
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise SettingError(f"specs must have a name each, got {repeated} twice. Rename one of them.")
        self._specs = {spec.name: spec for spec in specs}
        if state_bins is not None:
            check_bins(state_bins)
        self.state_convention = state_convention
        self._state_bins = state_bins

    @property
    def specs(self) -> tuple[EmbodimentSpec, ...]:
        """The robots, in the order given."""
        return tuple(self._specs.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the robots, in the order given."""
        return tuple(self._specs)

    @property
    def state_bins(self) -> int | None:
        """Bins in which a state is written; None where it stays out of the prompt."""
        return self._state_bins

    def spec(self, name: str) -> EmbodimentSpec:
        """Look up a robot by name.

        Args:
            name: Name of an embodiment.

        Returns:
            Its spec.

        Raises:
            EmbodimentError: If the name is unknown.

        Examples:
            >>> from vla_kit.embodiment.presets import preset
            >>> EmbodimentPrompter([preset("widowx")]).spec("widowx").rate_hz
            5.0
        """
        if name not in self._specs:
            raise EmbodimentError(
                f"embodiment must be one of {sorted(self._specs)}, got {name!r}. Add its EmbodimentSpec to specs."
            )
        return self._specs[name]

    def __call__(
        self,
        embodiment: str,
        instruction: str,
        chunk_size: int | None = None,
        *,
        state: Float[Tensor, " size"] | None = None,
    ) -> str:
        """Write the prompt.

        Args:
            embodiment: Name of the robot.
            instruction: What to do, in the words of the data set.
            chunk_size: Number of actions to announce, at least 1; the robot's own where None. A stage that predicts
                whole trajectories gives the length of the trajectory.
            state: Normalised state of the robot, written before the instruction where the prompter has `state_bins`.

        Returns:
            The text, on one line.

        Raises:
            EmbodimentError: If the name is unknown.
            SettingError: If `instruction` holds no word or `chunk_size` is below 1.
            DataError: If an entry of `state` is NaN or infinite.
        """
        spec = self.spec(embodiment)
        count = spec.chunk_size if chunk_size is None else chunk_size
        if count < 1:
            raise SettingError(f"chunk_size must be at least 1, got {count}. Count the actions to predict.")
        navigates = spec.task == "navigation"
        convention = f" {_convention_sentence(spec)}" if self.state_convention or navigates else ""
        actions = "waypoints" if navigates else "control actions"
        seen = "" if state is None or self._state_bins is None else f"{state_text(state, bins=self._state_bins)} "
        return (
            f"The robot is {_phrase(spec.robot_tag)}{_body(spec)}. "
            f"The control frequency is {_rate(spec.rate_hz)} Hz.{convention} "
            f"Please predict the next {count} {actions} to execute the following task: {seen}{_sentence(instruction)}"
        )


def _body(spec: EmbodimentSpec) -> str:
    """` with dual arms, waist, and mobile base`, or what of it the robot has."""
    arms = {"single": "single arm", "dual": "dual arms", None: ""}[spec.arms]
    if not arms:
        parts = [part for part, present in (("waist", spec.waist), ("mobile base", spec.mobile_base)) if present]
        return f" with {' and '.join(parts)}" if parts else ""
    return f" with {arms}{', waist' if spec.waist else ''}{', and mobile base' if spec.mobile_base else ''}"


def _rate(rate_hz: float) -> str:
    return str(int(rate_hz)) if float(rate_hz).is_integer() else f"{rate_hz:.6g}"


def _convention_sentence(spec: EmbodimentSpec) -> str:
    words = spec.control_convention
    return f"The control convention is {_phrase(words if words is not None else _describe(spec.action_space))}."


def _describe(space: ActionSpace) -> str:
    """`3 delta end-effector position channels [m] and 1 absolute gripper channel [0 to 1, not normalized]`."""
    counts: dict[tuple[str, str, str, bool], int] = {}
    for channel in space.channels:
        key = (channel.reference, channel.kind, channel.unit, channel.normalized)
        counts[key] = counts.get(key, 0) + 1
    parts = [
        f"{count} {reference} {_KINDS[kind]} channel{'' if count == 1 else 's'} "
        f"[{unit}{'' if normalized else ', not normalized'}]"
        for (reference, kind, unit, normalized), count in counts.items()
    ]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _phrase(words: str) -> str:
    """One line without a period at the end."""
    return " ".join(words.split()).removesuffix(".").rstrip()


def _sentence(instruction: str) -> str:
    """One line with exactly one closing mark."""
    words = " ".join(instruction.split()).rstrip(" ,;:")
    if not any(letter.isalnum() for letter in words):
        raise SettingError(f"instruction must hold a word, got {instruction!r}. Drop episodes without a task.")
    return words if words.rstrip(_CLOSING_QUOTES).endswith(_FINAL_MARKS) else f"{words}."
