"""The tasks of the simulators in words: sentences, shared scenes, and how much a recorder may shake the robot.

Light on purpose: an evaluation can list tasks and swap instructions without a simulator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from vla_kit.envs.disturbance import Disturbance
from vla_kit.errors import SettingError

__all__ = ["PAIRS", "TASKS", "EnvTask", "find_task"]

_INSTRUCTION_STREAM: Final = 7001
"""Keeps the draw of the sentence independent of the draw of the scene, which starts from the same seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvTask:
    """One task as language.

    Args:
        name: Name in the registry, `<simulator>/<task>`.
        simulator_id: What the simulator itself calls the task.
        embodiment: Name of the robot, a key of the prompter and of the normaliser.
        sentences: Ways to say the task. In those of MiniWorld `{object}` or `{route}` stands where the adapter puts the
            words of the scene.
        disturbance: Noise for recording demonstrations.
        held_out: Ways to say the task that no demonstration uses, to find out whether a policy understands more than
            the sentences that it was trained on.
        view_tags: Cameras of the robot, in the order in which their pictures enter the sequence.
        shares_scene_with: Name of the task whose scenes equal those of this one, seed by seed and pixel by pixel.
            Only the instruction tells the two apart, and sentence `i` of one differs from sentence `i` of the other
            in the direction alone.

    Raises:
        SettingError: If there is no sentence or no view, or a text is empty.

    Examples:
        >>> find_task("metaworld/faucet-open").instruction(0)
        'push the handle of the faucet to the right'
    """

    name: str
    simulator_id: str
    embodiment: str
    sentences: tuple[str, ...]
    disturbance: Disturbance
    held_out: tuple[str, ...] = ()
    view_tags: tuple[str, ...] = ("cam_high",)
    shares_scene_with: str | None = None

    def __post_init__(self) -> None:
        for name in ("name", "simulator_id", "embodiment", "shares_scene_with"):
            if getattr(self, name) == "":
                raise SettingError(f"{name} must not be empty, got ''. Names look like metaworld/faucet-open.")
        if not self.sentences:
            raise SettingError(f"sentences must hold at least one sentence, got none for {self.name!r}. Write some.")
        for name in ("sentences", "held_out"):
            if not all(sentence.strip() for sentence in getattr(self, name)):
                raise SettingError(f"{name} must be words, got an empty one for {self.name!r}. Drop it.")
        if not self.view_tags:
            raise SettingError(f"view_tags must hold at least one camera, got none for {self.name!r}. Name it.")

    def instruction(self, seed: int) -> str:
        """Draw the sentence of an episode.

        Args:
            seed: Seed of the episode. The draw is independent of the scene that the same seed gives, so the wording
                tells nothing about where things stand.

        Returns:
            One of `sentences`.
        """
        return _draw(self.sentences, seed)

    def held_out_instruction(self, seed: int) -> str:
        """Draw one of the sentences that no demonstration uses.

        Args:
            seed: Seed of the episode.

        Returns:
            One of `held_out`.

        Raises:
            SettingError: If there is none.
        """
        if not self.held_out:
            raise SettingError(f"held_out must hold at least one sentence, got none for {self.name!r}. Write some.")
        return _draw(self.held_out, seed)


def _draw(sentences: tuple[str, ...], seed: int) -> str:
    rng = np.random.default_rng([seed, _INSTRUCTION_STREAM])
    return sentences[int(rng.integers(len(sentences)))]


_SHAKE_SAWYER: Final = Disturbance(
    sigmas=(0.0, 0.2, 0.4, 0.6), channels=(True, True, True, False), kick_chance=0.08, kick_sigma=0.8, kick_steps=3
)
_ARM: Final = (True,) * 6
_SHAKE_ALOHA: Final = Disturbance(sigmas=(0.0, 0.01, 0.02, 0.03), channels=(*_ARM, False, *_ARM, False))  # radians


def _faucet(side: str) -> tuple[str, ...]:
    """Sentences of the faucet tasks; `side` is the robot's own. In the picture the handle ends on that side too."""
    return (
        f"turn the faucet handle to the {side}",
        f"rotate the faucet lever to the {side}",
        f"push the handle of the faucet to the {side}",
        f"move the red faucet lever to the {side}",
        f"swing the tap handle {side}",
        f"turn the tap to the {side}",
        f"rotate the red handle {side}",
        f"push the red lever to the {side} side",
    )


_METAWORLD: Final[dict[str, tuple[str, ...]]] = {
    "button-press-topdown": (
        "press the red button",
        "push the red button down",
        "press the button from above",
        "push down the red button on the yellow box",
        "move above the red button and press it",
        "hit the button on top of the box",
        "press down on the red button",
        "lower the gripper onto the red button and push it in",
    ),
    "drawer-open": (
        "open the drawer",
        "pull the drawer open",
        "open the green drawer",
        "pull the white handle to open the drawer",
        "slide the drawer out",
        "grab the drawer handle and pull",
        "pull out the green drawer",
        "take the drawer by its handle and open it",
    ),
    "faucet-open": _faucet("right"),
    "faucet-close": _faucet("left"),
    "reach": (
        "reach the red ball",
        "move the gripper to the red ball",
        "go to the red ball",
        "bring the hand to the red marker",
        "touch the red ball with the gripper",
        "move to the small red sphere",
    ),
    "push": (
        "push the puck to the green ball",
        "move the puck onto the green marker",
        "slide the dark red puck to the green ball",
        "push the cylinder to the green goal",
        "bring the puck to the green sphere",
        "shove the dark red cylinder over to the green ball",
    ),
    "handle-press": (
        "press the handle down",
        "push the red handle down",
        "press down the red handle",
        "push down the handle on the grey box",
        "press the lever on the side of the box",
        "move the red handle all the way down",
    ),
    "drawer-close": (
        "close the drawer",
        "push the drawer shut",
        "close the green drawer",
        "slide the drawer in",
        "push the drawer in until it is closed",
        "shut the green drawer",
    ),
    "window-open": (
        "open the window",
        "slide the window open",
        "push the window handle to open the window",
        "move the window by its handle until it is open",
        "slide the window aside",
        "open the brown window by its white handle",
    ),
    "coffee-button": (
        "press the button of the coffee machine",
        "push the button on the coffee machine",
        "start the coffee machine",
        "press the white button to make coffee",
        "push in the coffee machine button",
        "turn on the coffee maker by its button",
    ),
}


def _faucet_held_out(side: str) -> tuple[str, ...]:
    return (
        f"make the faucet point to the {side}",
        f"the lever of the tap should end up on the {side}",
        f"grip the red lever and shift it to the {side}",
        f"sweep the tap lever to the {side}",
    )


_HELD_OUT: Final[dict[str, tuple[str, ...]]] = {
    "button-press-topdown": (
        "make the red button go down",
        "use the gripper to press what is red on the box",
        "the button on the yellow box must be pressed from the top",
        "drop onto the button until it clicks",
    ),
    "drawer-open": (
        "get the drawer out of its case",
        "make the green drawer stand open",
        "draw the box out by the white grip",
        "the drawer is shut, open it",
    ),
    "faucet-open": _faucet_held_out("right"),
    "faucet-close": _faucet_held_out("left"),
    "reach": (
        "put the gripper where the red ball is",
        "fly to the red dot",
        "bring the fingers close to the red point",
        "hover at the red sphere",
    ),
    "push": (
        "get the puck to where the green ball is",
        "the dark red disc belongs at the green point",
        "nudge the red puck until it reaches the green spot",
        "sweep the puck over to the green target",
    ),
    "handle-press": (
        "make the red handle go down",
        "lean on the handle until it is at the bottom",
        "lower the handle of the grey box",
        "force the red lever down",
    ),
    "drawer-close": (
        "make the drawer disappear into its case",
        "the drawer stands open, shut it",
        "put the green drawer back in",
        "press the drawer until nothing sticks out",
    ),
    "window-open": (
        "get the window out of the way",
        "shift the pane until the window is open",
        "take the white grip and slide the pane aside",
        "let some air in through the window",
    ),
    "coffee-button": (
        "make the machine brew a coffee",
        "switch the coffee machine on",
        "poke the white button of the coffee maker",
        "get a coffee started",
    ),
}

_SHAKE_MINIWORLD: Final = Disturbance(  # pushes alone: constant noise would never let the robot stand still
    sigmas=(0.0, 1e-6), channels=(True, True, True), kick_chance=0.12, kick_sigma=0.3, kick_steps=2
)
_MINIWORLD: Final[dict[str, tuple[str, ...]]] = {
    "follow-route": (
        "{route} and stop in the middle of the room",
        "{route}, then stop in the middle of that room",
        "{route} and stop there",
        "{route} and wait in the middle of the room",
        "{route}, then wait there",
        "{route} and stay in that room",
    ),
    "find-object": (
        "find the {object} and stop beside it",
        "go to the {object} and stop",
        "look for the {object} and stop in front of it",
        "walk up to the {object} and wait",
        "find the {object} and stay there",
        "go and stop beside the {object}",
    ),
    "follow-target": (
        "follow the {object} and stop where it stops",
        "stay behind the {object} until it rests",
        "go after the {object} and stop beside it",
        "follow the {object} until it stops",
        "walk behind the {object} and wait where it rests",
        "stay with the {object} and stop when it stops",
    ),
}

_PARTNERS: Final = {"faucet-open": "metaworld/faucet-close", "faucet-close": "metaworld/faucet-open"}

_ALL: Final = [
    *(
        EnvTask(
            name=f"metaworld/{name}",
            simulator_id=f"{name}-v3",
            embodiment="metaworld_sawyer",
            sentences=sentences,
            disturbance=_SHAKE_SAWYER,
            held_out=_HELD_OUT[name],
            shares_scene_with=_PARTNERS.get(name),
        )
        for name, sentences in _METAWORLD.items()
    ),
    EnvTask(
        name="aloha/transfer-cube",
        simulator_id="transfer_cube",
        embodiment="aloha_transfer",
        sentences=(
            "hand the red cube from the right arm to the left arm",
            "pick up the cube with the right arm and pass it to the left arm",
            "transfer the red cube to the left gripper",
            "pass the cube from the right hand to the left hand",
            "lift the red cube with the right gripper and give it to the left one",
            "take the cube with the right arm and hand it over to the left",
            "give the red cube to the left arm",
            "move the cube from the right gripper into the left gripper",
        ),
        disturbance=_SHAKE_ALOHA,
        held_out=(
            "let the left arm have the red cube",
            "the cube has to change from the right hand to the left one",
            "grip the cube on the right and leave it with the left arm",
            "bring the red block over to the other gripper",
        ),
    ),
    *(
        EnvTask(
            name=f"miniworld/{name}",
            simulator_id=name,
            embodiment="miniworld_agent",
            sentences=sentences,
            disturbance=_SHAKE_MINIWORLD,
            view_tags=("ego",),
        )
        for name, sentences in _MINIWORLD.items()
    ),
]

TASKS: Final[Mapping[str, EnvTask]] = MappingProxyType({task.name: task for task in _ALL})
"""Name in the registry -> task, of the simulators whose sentences are ours."""

PAIRS: Final[tuple[tuple[str, str], ...]] = (("metaworld/faucet-open", "metaworld/faucet-close"),)
"""Tasks that share their scenes, so that only the instruction decides what to do.

A swapped trial runs one task with the sentence of the other. As both simulate the same scene, running the other
task with its own sentence and the same seed shows whether the policy did what it was told.
"""


def find_task(name: str) -> EnvTask:
    """Look up a task.

    Args:
        name: Key of `TASKS`, or a task of LIBERO, such as `libero/spatial-0`: those are read from the installed
            package, see `vla_kit.envs.libero_tasks.libero_task`.

    Returns:
        The task.

    Raises:
        SettingError: If there is no such task.
        MissingExtraError: If the task is one of LIBERO, which is not installed.

    Examples:
        >>> find_task("aloha/transfer-cube").embodiment
        'aloha_transfer'
    """
    if name.startswith("libero/"):
        from vla_kit.envs.libero_tasks import libero_task  # its sentences lie in an optional package

        return libero_task(name.removeprefix("libero/"))
    if name not in TASKS:
        raise SettingError(
            f"name must be one of {sorted(TASKS)} or a task of libero, got {name!r}. Check the spelling."
        )
    return TASKS[name]
