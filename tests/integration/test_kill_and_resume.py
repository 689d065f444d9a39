"""`kill -9` at any moment, and the run goes on bit for bit: three robots in three formats, through the command line."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from vla_kit.data.lerobot_writer import LeRobotWriter

HERE = Path(__file__).parent
CONFIGS = HERE.parents[1] / "examples" / "qwen_vla" / "configs"
STEPS, EVERY = 14, 3

pytestmark = pytest.mark.slow


def preset(name, **changes):
    return {"class_path": "vla_kit.embodiment.presets.preset", "init_args": {"name": name, **changes}}


def pictures(rng, length):
    return rng.integers(0, 256, (length, 48, 64, 3), dtype=np.uint8)


def write_lerobot(folder, rng):
    """Sawyer, 4 channels, LeRobot v3.0 with a video."""
    camera = {"dtype": "video", "shape": (48, 64, 3)}
    features = {"action": {"dtype": "float32", "shape": (4,)}, "observation.images.top": camera}
    with LeRobotWriter(folder, rate_hz=20, features=features) as writer:
        for number, length in enumerate((20, 31, 12)):
            actions = rng.uniform(-1, 1, (length, 4)).astype(np.float32)
            frames = {"observation.images.top": pictures(rng, length)}
            writer.add_episode(actions, frames, instruction=f"open drawer {number % 2}")
    return {
        "root": str(folder),
        "embodiment": "metaworld_sawyer",
        "views": {"cam_high": "observation.images.top"},
        "weight": 2.0,
    }


def write_robomimic(path, rng):
    """Franka, 7 joints and a gripper, one HDF5 file."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 15}})
        for number, length in enumerate((25, 18, 30)):
            demo = file["data"].create_group(f"demo_{number}")
            demo.attrs["language_instruction"] = "lift the cube"
            demo["actions"] = rng.normal(size=(length, 8))
            demo["obs/agentview_image"] = pictures(rng, length)
            demo["obs/eye_in_hand_image"] = pictures(rng, length)
    return {
        "root": str(path),
        "embodiment": "franka_joint",
        "actions": [{"column": "actions"}],
        "views": {"cam_high": "obs/agentview_image", "cam_left_wrist": "obs/eye_in_hand_image"},
    }


def write_aloha(folder, rng):
    """Two arms without actions but with joint states: pseudo-actions, one HDF5 file per episode."""
    h5py = pytest.importorskip("h5py")
    folder.mkdir()
    for number, length in enumerate((22, 35)):
        with h5py.File(folder / f"episode_{number}.hdf5", "w") as file:
            file["action"] = np.zeros((length, 14))
            file["observations/qpos"] = rng.normal(size=(length, 14)).cumsum(0)
            file["observations/images/cam_high"] = pictures(rng, length)
            file["language_raw"] = "fold the towel"
    return {
        "root": str(folder),
        "embodiment": "mobile_aloha_joint",
        "actions": [{"column": "observations/qpos", "pseudo": True}],
        "views": {"ego": "observations/images/cam_high"},
        "rate_hz": 50.0,
    }


@pytest.fixture
def made(tmp_path):
    rng = np.random.default_rng(0)
    sets = [
        write_lerobot(tmp_path / "drawers in Köln", rng),
        write_robomimic(tmp_path / "lift.hdf5", rng),
        write_aloha(tmp_path / "towels", rng),
    ]
    return sets, [preset(one["embodiment"]) for one in sets]


@pytest.fixture
def real(tmp_path, shared_data):
    for name in ("groot_gr1_pnp", "bridge_rlds_debug"):
        shutil.copytree(shared_data / name, tmp_path / name)
    gr1 = {
        "class_path": "vla_kit.embodiment.EmbodimentSpec",
        "init_args": {
            "name": "gr1_joints",
            "robot_tag": "Fourier GR-1",
            "rate_hz": 20.0,
            "chunk_size": 16,
            "arms": "dual",
            "action_space": {
                "groups": [{"name": "joint", "kind": "joint", "reference": "absolute", "unit": "rad", "count": 44}]
            },
        },
    }
    sets = [
        {
            "root": str(tmp_path / "groot_gr1_pnp"),
            "embodiment": "gr1_joints",
            "views": {"ego": "observation.images.ego_view"},
        },
        {
            "root": str(tmp_path / "bridge_rlds_debug"),
            "embodiment": "widowx",
            "views": {"cam_high": "observation/image_0"},
            "rate_hz": 5.0,
        },
        write_lerobot(tmp_path / "drawers", np.random.default_rng(0)),
    ]
    return sets, [gr1, preset("widowx"), preset("metaworld_sawyer")]


def arguments(folder, sets, robots, *more):
    """A small model on these sets: the tiny size, made smaller."""
    config = folder / "run.yaml"
    augment = {"class_path": "vla_kit.data.augment.ColorJitter"}
    config.write_text(
        yaml.safe_dump(
            {
                "model": {"prompter": {"init_args": {"specs": robots}}},
                "data": {"init_args": {"sets": sets, "augment": augment, "validation_share": 0.3}},
            }
        )
    )
    files = [CONFIGS / name for name in ("base.yaml", "stage3_sft.yaml", "size/tiny.yaml")]
    return [
        "fit",
        *(f"--config={file}" for file in (*files, config)),
        "--warm_start.checkpoint=null",
        "--data.batch_size=6",
        "--model.backbone.init_args.hidden=32",
        "--model.backbone.init_args.vision_layers=1",
        "--model.backbone.init_args.text_layers=1",
        "--model.head.init_args.head.init_args.context_width=32",
        "--model.head.init_args.head.init_args.width=32",
        "--model.head.init_args.head.init_args.depth=1",
        "--model.head.init_args.head.init_args.mlp_hidden=32",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        f"--trainer.max_steps={STEPS}",
        "--trainer.val_check_interval=4",
        "--trainer.limit_val_batches=1",
        "--trainer.callbacks+=__main__.LogBatches",
        f"--checkpoint.every_n_train_steps={EVERY}",
        *more,
    ]


def start(command, log):
    environment = os.environ | {"BATCH_LOG": str(log), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(HERE / "logged_run.py"), *command], env=environment, stderr=subprocess.PIPE, text=True
    )


def finish(command, log):
    process = start(command, log)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said[-3000:]


def lines(log, rank=0):
    path = Path(f"{log}.{rank}")
    return path.read_text().splitlines() if path.exists() else []


def end_of(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def assert_same(first, second, where=""):
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}/{index}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


@pytest.mark.parametrize("data", ["made", "real"])
def test_a_killed_run_goes_on_bit_for_bit(data, request, tmp_path):
    sets, robots = request.getfixturevalue(data)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(arguments(tmp_path, sets, robots, f"--trainer.default_root_dir={whole}"), tmp_path / "whole.log")
    expected = lines(tmp_path / "whole.log")
    assert len(expected) == STEPS
    assert len(set(expected)) == STEPS

    log = tmp_path / "killed.log"
    command = arguments(tmp_path, sets, robots, f"--trainer.default_root_dir={killed}", "--data.num_workers=2")
    process = start(command, log)
    while len(lines(log)) < 2 * EVERY + 1 and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    seen = lines(log)
    assert expected[: len(seen)] == seen
    assert len(seen) < STEPS

    last = killed / "checkpoints" / "last.ckpt"
    done = end_of(killed)["global_step"]
    log.with_suffix(".log.0").unlink()
    finish([*arguments(tmp_path, sets, robots, f"--trainer.default_root_dir={killed}"), f"--ckpt_path={last}"], log)
    assert lines(log) == expected[done:]
    for key in ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "DemonstrationDataModule"):
        assert_same(end_of(killed)[key], end_of(whole)[key], key)


def test_two_processes_take_the_batches_of_one_apart_and_one_goes_on(made, tmp_path):
    """Twice three samples are once six: another world size goes on at the same sample."""
    sets, robots = made
    alone, both = tmp_path / "alone", tmp_path / "both"
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=3", "--trainer.max_steps=4"]
    finish([*arguments(tmp_path, sets, robots, f"--trainer.default_root_dir={both}"), *two], tmp_path / "both.log")
    ranks = [lines(tmp_path / "both.log", rank) for rank in (0, 1)]
    assert [len(rank) for rank in ranks] == [4, 4]
    assert not {line.split()[0] for line in ranks[0]} & {line.split()[0] for line in ranks[1]}

    finish(arguments(tmp_path, sets, robots, f"--trainer.default_root_dir={alone}"), tmp_path / "alone.log")
    resumed = [f"--ckpt_path={both / 'checkpoints' / 'last.ckpt'}", "--trainer.max_steps=6"]
    log = tmp_path / "resumed.log"
    finish([*arguments(tmp_path, sets, robots, f"--trainer.default_root_dir={both}"), *resumed], log)
    batches = [[line.split()[0] for line in lines(one)] for one in (log, tmp_path / "alone.log")]
    assert batches[0] == batches[1][4:6]
