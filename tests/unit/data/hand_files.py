"""Hand data sets that tests write: in the layouts of EgoDex, HOT3D and VITRA, of hands whose poses are known."""

import json
from pathlib import Path

import h5py
import numpy as np
import torch

from vla_kit.actions import hand_points, to_matrix

NAMES = {
    "thumb": "Thumb",
    "index": "IndexFinger",
    "middle": "MiddleFinger",
    "ring": "RingFinger",
    "pinky": "LittleFinger",
}
JOINTS = ("Knuckle", "IntermediateBase", "IntermediateTip", "Tip")


def moving_pose(steps: int, seed: int) -> np.ndarray:
    """A body that moves and turns smoothly."""
    generator = torch.Generator().manual_seed(seed)
    start, speed = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    path = start + 0.05 * speed * torch.arange(steps)[:, None]
    pose = torch.eye(4, dtype=torch.float64).repeat(steps, 1, 1)
    pose[:, :3, :3], pose[:, :3, 3] = to_matrix(path[:, :3], "axis_angle"), path[:, 3:]
    return pose.numpy()


def bending_fingers(steps: int, seed: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    start, speed = torch.randn(2, 45, generator=generator, dtype=torch.float64)
    return (0.2 * start + 0.02 * speed * torch.arange(steps)[:, None]).numpy()


def write_egodex(path: Path, *, steps: int = 6, seed: int = 0, **attributes: str) -> dict[str, np.ndarray]:
    """One episode; gives wrists and fingers, the latter as those of right hands."""
    truth = {"camera": moving_pose(steps, seed)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["transforms/camera"] = truth["camera"]
        for number, side in enumerate(("left", "right"), start=1):
            wrist, fingers = moving_pose(steps, seed + number), bending_fingers(steps, seed + 10 * number)
            truth |= {f"{side}.wrist": wrist, f"{side}.fingers": fingers}
            points = hand_points(torch.from_numpy(wrist), torch.from_numpy(fingers), side=side).numpy()
            names = [f"{side}Hand", *(f"{side}{word}{joint}" for word in NAMES.values() for joint in JOINTS)]
            for row, name in enumerate(names):
                transform = np.tile(np.eye(4), (steps, 1, 1))
                transform[:, :3, 3] = points[:, row]
                file[f"transforms/{name}"] = transform
                file[f"confidences/{name}"] = np.ones(steps)
        file.attrs.update(attributes)
    return truth


def write_hot3d(
    folder: Path, *, steps: int = 6, seed: int = 0, absent: dict[str, set[int]] | None = None
) -> dict[str, np.ndarray]:
    """One sequence; gives wrists as SE(3) and the 15 weights."""
    from scipy.spatial.transform import Rotation

    folder.mkdir(parents=True, exist_ok=True)
    truth = {"camera": moving_pose(steps, seed)}
    lines = [{"timestamp_ns": 1000 + 33_333_333 * step, "hand_poses": {}} for step in range(steps)]
    for key in ("0", "1"):
        wrist = moving_pose(steps, seed + 1 + int(key))
        weights = np.random.default_rng(seed + int(key)).normal(size=(steps, 15))
        truth |= {f"{key}.wrist": wrist, f"{key}.weights": weights}
        quaternions = Rotation.from_matrix(wrist[:, :3, :3]).as_quat(scalar_first=True)
        for step in range(steps):
            if step not in (absent or {}).get(key, set()):
                lines[step]["hand_poses"][key] = {
                    "wrist_xform": {"q_wxyz": quaternions[step].tolist(), "t_xyz": wrist[step, :3, 3].tolist()},
                    "joint_angles": weights[step].tolist(),
                }
    (folder / "mano_hand_pose_trajectory.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    rows = ["object_uid,timestamp[ns],t_wo_x[m],t_wo_y[m],t_wo_z[m],q_wo_w,q_wo_x,q_wo_y,q_wo_z"]
    for step, pose in enumerate(truth["camera"]):
        quaternion = Rotation.from_matrix(pose[:3, :3]).as_quat(scalar_first=True)
        rows.append(",".join(map(str, [7, lines[step]["timestamp_ns"], *pose[:3, 3], *quaternion])))
    (folder / "headset_trajectory.csv").write_text("\n".join(rows) + "\n")
    return truth


def write_vitra(
    path: Path, *, steps: int = 8, seed: int = 0, seen: dict[str, list[int]] | None = None, video: str = "clip"
) -> dict[str, np.ndarray]:
    """One episode; `seen` names the frames in which a hand was kept, all where it is not named."""
    path.parent.mkdir(parents=True, exist_ok=True)
    camera = moving_pose(steps, seed)
    out = np.linalg.inv(camera)
    arrays, truth = {"extrinsics": out, "video_decode_frame": np.arange(2, 2 + steps)}, {"camera": camera}
    for number, side in enumerate(("left", "right"), start=1):
        wrist, fingers = moving_pose(steps, seed + number), bending_fingers(steps, seed + 10 * number)
        truth |= {f"{side}.wrist": wrist, f"{side}.fingers": fingers}
        kept = np.isin(np.arange(steps), (seen or {}).get(side, range(steps)))
        joints = hand_points(torch.from_numpy(wrist), torch.from_numpy(fingers), side=side).numpy()
        arrays |= {
            f"{side}/global_orient_worldspace": wrist[:, :3, :3],
            f"{side}/global_orient_camspace": out[:, :3, :3] @ wrist[:, :3, :3],
            f"{side}/hand_pose": to_matrix(torch.from_numpy(fingers).unflatten(1, (15, 3)), "axis_angle").numpy(),
            f"{side}/transl_worldspace": wrist[:, :3, 3],
            f"{side}/joints_worldspace": joints,
            f"{side}/joints_camspace": joints @ out[:, :3, :3].swapaxes(1, 2) + out[:, None, :3, 3],
            f"{side}/kept_frames": kept.astype(np.int64),
        }
    np.savez(path, **arrays)
    facts = {
        "video_name": video,
        "text/left": [["Hold the bowl.", [0, 3]]],
        "text/right": [["Stir the soup", [0, steps]]],
    }
    path.with_name(f"{path.stem}.meta.json").write_text(json.dumps(facts))
    return truth
