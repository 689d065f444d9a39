"""How the public parts of `vla_kit.envs` are built that need no simulator."""

import sys
from functools import cache
from pathlib import Path

import numpy as np
from contract_cases.probe import Case

from vla_kit.envs import Disturbance, EnvHere, EnvRecipe, EnvTask, EnvWorker
from vla_kit.envs.episodes import RandomActor
from vla_kit.envs.floor_plan import Disc, Door, FloorPlan, Room, ShortestPaths
from vla_kit.envs.gymnasium_env import AsGymnasium, GymnasiumEnv
from vla_kit.envs.places import InProcesses, InThisProcess, OnServers
from vla_kit.envs.remote import RemoteEnv, read_key
from vla_kit.envs.standing_still import StandingStill

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "envs"))

import toy_gymnasium  # noqa: F401 (after its folder; registers toy/Dot-v0)
from fake_env import LineEnv


def _key(folder: Path) -> Path:
    path = folder / "key"
    path.write_bytes(bytes(range(16)))
    return path


@cache
def _rooms() -> list[Room]:
    return [Room(west=0.0, east=4.0, south=0.0, north=4.0), Room(west=4.0, east=8.0, south=0.0, north=4.0)]


def _gymnasium(**more: object) -> dict[str, object]:
    return {
        "id": "toy/Dot-v0",
        "embodiment": "dot",
        "views": {"cam_high": "observation.images.top"},
        "rate_hz": 10.0,
        "success": "info.is_success",
        "success_from": 1.0,
        "state": "observation.images.top",
        "max_steps": 9,
        "settings": {"late": True},
    } | more


CASES = [
    Case(
        Disturbance,
        lambda folder: {
            "sigmas": (0.0, 0.1),
            "channels": (True, False),
            "kick_chance": 0.1,
            "kick_sigma": 0.2,
            "kick_steps": 3,
        },
    ),
    Case(
        EnvTask,
        lambda folder: {
            "name": "metaworld/faucet-open",
            "simulator_id": "faucet-open-v3",
            "embodiment": "metaworld_sawyer",
            "sentences": ("open the faucet",),
            "disturbance": Disturbance(sigmas=(0.0,), channels=(True,)),
            "held_out": ("let the water run",),
            "view_tags": ("cam_high",),
            "shares_scene_with": "metaworld/faucet-close",
        },
        meant={"held_out": ("empty",)},  # every sentence may be trained on
    ),
    Case(
        EnvRecipe,
        lambda folder: {
            "class_path": "vla_kit.envs.gymnasium_env.GymnasiumEnv",
            "init_args": {"id": "toy/Dot-v0", "embodiment": "dot", "views": {"cam": "render"}, "rate_hz": 10},
        },
    ),
    Case(EnvHere, lambda folder: {}),
    Case(EnvWorker, lambda folder: {"timeout_s": 60.0}),
    Case(InThisProcess, lambda folder: {}),
    Case(InProcesses, lambda folder: {"timeout_s": 60.0}),
    Case(
        OnServers,
        lambda folder: {"addresses": ["10.0.0.7:7010"], "key_file": str(_key(folder)), "timeout_s": 60.0},
    ),
    Case(RemoteEnv, lambda folder: {"address": "10.0.0.7:7010", "key": bytes(16), "timeout_s": 60.0}),
    Case(read_key, lambda folder: {"path": _key(folder)}, named={"path": "key_file"}),
    Case(RandomActor, lambda folder: {"env": LineEnv(), "seed": 1}, meant={"seed": ("0",)}),
    Case(
        StandingStill,
        lambda folder: {"steps": 4, "distance_m": 0.3, "angle_rad": 0.5},
    ),
    Case(Room, lambda folder: {"west": 0.0, "east": 4.0, "south": 0.0, "north": 4.0}),
    Case(Door, lambda folder: {"rooms": (0, 1), "place": 2.0, "width": 1.0}),
    Case(Disc, lambda folder: {"x": 1.0, "y": 1.0, "radius": 0.3}),
    Case(
        FloorPlan,
        lambda folder: {
            "rooms": _rooms(),
            "doors": [Door(rooms=(0, 1), place=2.0, width=1.0)],
            "discs": [Disc(x=1.0, y=1.0, radius=0.3)],
        },
        meant={"doors": ("empty",), "discs": ("empty",)},  # closed and empty rooms
    ),
    Case(
        ShortestPaths,
        lambda folder: {"plan": FloorPlan(_rooms()), "goal": np.array([2.0, 2.0]), "radius": 0.3},
    ),
    Case(
        GymnasiumEnv,
        lambda folder: _gymnasium(sentences=["push the dot to the right"]),
        meant={"settings": ("empty",)},  # those of the registered environment
        left={"instruction": "given in place of sentences in the next case"},
    ),
    Case(
        GymnasiumEnv,
        lambda folder: _gymnasium(instruction="info.task.sentence"),
        meant={"settings": ("empty",)},
        left={"sentences": "given in place of an instruction in the case before"},
    ),
    Case(AsGymnasium, lambda folder: {"env": LineEnv()}),
]

_FILLED = "a record that the library fills while episodes run"
WITHOUT_CASE = {
    "vla_kit.envs.collect.RecordedEpisode": _FILLED,
    "vla_kit.envs.episodes.ChunkOutcome": _FILLED,
    "vla_kit.envs.episodes.Scene": _FILLED,
    "vla_kit.envs.episodes.Sight": _FILLED,
    "vla_kit.envs.episodes.SoloOutcome": _FILLED,
    "vla_kit.envs.hosts.EnvFacts": "copied from the properties of an environment by facts_of",
    "vla_kit.envs.protocol.StepResult": "what an environment answers; rollouts refuse a success that is no bool",
    "vla_kit.envs.navigation.NavigationTrace": "what an environment answers; NavigationEpisode.of checks its numbers",
    "vla_kit.envs.miniworld_scenes.NavigationScene": "drawn by draw_scene from a seed",
    "vla_kit.envs.miniworld_scenes.SceneObject": "drawn by draw_scene from a seed",
    "vla_kit.envs.shifts.Shift": "a row of SHIFTS, whose names find_shift checks",
    "vla_kit.envs.mujoco_camera.CameraPlace": "a NamedTuple, checked where it is set: FreeCamera.place",
    "vla_kit.envs.mujoco_camera.Ornament": "drawn by MetaWorldShift from a seed",
    "vla_kit.envs.habitat.HabitatVLNEnv": "needs the scans; tests/unit/envs/test_habitat.py refuses its settings",
    "vla_kit.envs.libero.LiberoEnv": "needs LIBERO; tests/unit/envs/test_libero.py refuses its settings",
    "vla_kit.envs.libero_expert.LiberoExpert": "needs LIBERO; tests/unit/envs/test_libero_expert.py refuses its tasks",
}
