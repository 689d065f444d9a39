"""Write the language-action corpus: the verb `vla-kit data synthesize`."""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy import ndarray
from rich.console import Console

from vla_kit.data.jobs import choose_executor
from vla_kit.data.jobs._progress import with_progress
from vla_kit.data.lerobot_writer import LeRobotWriter, check_new_root
from vla_kit.data.synthesis.arm import Arm, arm_names, find_arm
from vla_kit.data.synthesis.template_names import TEMPLATES, TemplateName
from vla_kit.errors import SettingError

if TYPE_CHECKING:  # MuJoCo and Ruckig are extras
    from vla_kit.data.synthesis.arm_model import ArmModel
    from vla_kit.data.synthesis.planner import PlannedTrajectory

__all__ = ["synthesize"]

_BLOCK: Final = 16  # trajectories


@dataclass(frozen=True)
class _Block:
    """Trajectories of one arm that one worker plans together."""

    robot: str
    numbers: range


def synthesize(
    out: str,
    robots: list[str] | None = None,
    templates: list[TemplateName] | None = None,
    episodes: int = 100,
    first: int = 0,
    seed: int = 0,
    segments: Literal["episodes", "frames", "none"] = "episodes",
    rate_hz: float = 50.0,
    workers: int = 1,
    ray: str | None = None,
) -> None:
    """Write trajectories of single arms with sentences but no pictures, as a LeRobot v3.0 data set per robot.

    Trajectory n of a robot is the same whatever else is asked for: other robots, more episodes, more workers. To
    share a corpus among machines give each its own `first`, and join with `vla_kit.data.lerobot_merge`.

    Args:
        out: Folder to create; each robot's data set becomes a folder in it.
        robots: Names of known arms, or YAML files that describe one; all known arms where None.
        templates: Kinds of task, taken in turn; all six where None.
        episodes: Trajectories per robot.
        first: Number of the first trajectory.
        seed: Seed of the corpus.
        segments: Where the sentences of the parts of a task go. `episodes`: every trajectory is followed by its parts
            as episodes of their own. `frames`: a frame's sentence is that of its part. `none`: nowhere.
        rate_hz: Frames per second.
        workers: Processes.
        ray: Address of a Ray cluster to run on, `local` to start one here; none where None.

    Raises:
        SettingError: If `out` holds something, or a robot, template or number is wrong.
        MissingExtraError: If MuJoCo, Ruckig or the package of robot models is not installed.
        DataError: If an arm can do nothing in its workspace.

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.3: six templates by six arms, 50 Hz, parts as segments. The words, the
        numbers of the scenes and the speeds are ours; the paper prints none.
    """
    chosen = tuple(templates) if templates is not None else TEMPLATES
    unknown = [name for name in chosen if name not in TEMPLATES]
    if unknown or not chosen:
        raise SettingError(f"templates must be among {list(TEMPLATES)}, got {list(chosen)}. Choose some of them.")
    if episodes < 1 or first < 0 or seed < 0 or not 0 < rate_hz < math.inf:
        raise SettingError(
            f"episodes must be at least 1, first and seed at least 0, rate_hz above 0 and finite, got {episodes}, "
            f"{first}, {seed} and {rate_hz}. Correct them."
        )
    if segments not in ("episodes", "frames", "none"):
        raise SettingError(f"segments must be 'episodes', 'frames' or 'none', got {segments!r}. Use 'episodes'.")
    root = Path(out).absolute()
    check_new_root(root)
    names = list(robots) if robots is not None else list(arm_names())
    arms = {name: find_arm(name) for name in names}
    if not arms or len({arm.name for arm in arms.values()}) < len(names):
        raise SettingError(f"robots must be one or more different arms, got {names}. Name each of them once.")
    limit = first + episodes
    starts = range(first, limit, _BLOCK)
    blocks = [_Block(name, range(start, min(start + _BLOCK, limit))) for name, start in product(names, starts)]
    work = partial(_plan_block, templates=chosen, seed=seed, rate_hz=rate_hz)
    attempts = kept = 0
    with ExitStack() as stack, choose_executor(workers=workers, ray=ray) as executor:
        writers = {
            name: stack.enter_context(
                LeRobotWriter(root / arm.name, rate_hz=rate_hz, features=_features(arm), robot_type=arm.name)
            )
            for name, arm in arms.items()
        }
        results = with_progress(executor.map(work, blocks), total=len(blocks), text="planning")
        for block, trajectories in zip(blocks, results, strict=True):
            for trajectory in trajectories:
                attempts += trajectory.attempts
                kept += 1
                _write(writers[block.robot], trajectory, segments)
        frames = sum(writer.num_frames for writer in writers.values())
        written = sum(writer.num_episodes for writer in writers.values())
    Console(highlight=False, soft_wrap=True).print(
        f"Wrote {kept} trajectories of {len(names)} robots as {written} episodes, {frames} frames, to {root}. "
        f"{attempts - kept} of {attempts} scenes were given up.",
        markup=False,
    )


def _plan_block(
    block: _Block, *, templates: tuple[TemplateName, ...], seed: int, rate_hz: float
) -> "list[PlannedTrajectory]":
    from vla_kit.data.synthesis.planner import plan

    model = _model(block.robot)
    return [
        plan(model, templates[number % len(templates)], number=number, seed=seed, rate_hz=rate_hz)
        for number in block.numbers
    ]


@lru_cache(maxsize=8)
def _model(name: str) -> "ArmModel":
    from vla_kit.data.synthesis.arm_model import ArmModel

    return ArmModel(find_arm(name))


def _features(arm: Arm) -> dict[str, dict[str, Any]]:
    joints = list(arm.joints)
    pose = ["x", "y", "z", "qx", "qy", "qz", "qw"]
    return {
        "action": _numbers([*joints, "gripper"]),
        "observation.state": _numbers([*joints, "gripper"]),
        "observation.velocity": _numbers(joints),
        "observation.eef_pose": _numbers(pose),
        "template_index": {"dtype": "int64", "shape": (1,), "names": None},
        "part_index": {"dtype": "int64", "shape": (1,), "names": None},
    }


def _numbers(names: list[str]) -> dict[str, Any]:
    return {"dtype": "float32", "shape": (len(names),), "names": names}


def _write(
    writer: LeRobotWriter, trajectory: "PlannedTrajectory", segments: Literal["episodes", "frames", "none"]
) -> None:
    by_frame = [trajectory.parts[part] for part in trajectory.part]
    sentence = by_frame if segments == "frames" else trajectory.instruction
    _add(writer, trajectory, np.arange(len(trajectory.part)), sentence)
    if segments == "episodes":
        for frames in _parts(trajectory):
            _add(writer, trajectory, frames, by_frame[int(frames[0])])


def _parts(trajectory: "PlannedTrajectory") -> Iterator[ndarray]:
    for number in range(len(trajectory.parts)):
        frames = np.flatnonzero(trajectory.part == number)
        if len(frames):
            yield frames


def _add(writer: LeRobotWriter, trajectory: "PlannedTrajectory", frames: ndarray, instruction: str | list[str]) -> None:
    state = np.concatenate([trajectory.position, trajectory.gripper[:, None]], axis=1)
    writer.add_episode(
        trajectory.action[frames],
        instruction=instruction,
        columns={
            "observation.state": state[frames],
            "observation.velocity": trajectory.velocity[frames],
            "observation.eef_pose": trajectory.eef_pose[frames],
            "template_index": np.full(len(frames), TEMPLATES.index(trajectory.template)),
            "part_index": trajectory.part[frames],
        },
        seed=trajectory.seed,
    )
