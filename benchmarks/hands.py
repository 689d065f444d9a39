"""What is lost between a real episode of a human hand and the actions of a policy.

Run: python benchmarks/hands.py --episode EPISODE.npz [--results docs/results/hands.json]

EPISODE.npz is VITRA's example episode (25 frames of a right hand; real data, so it lies outside the project). Figures:

- `chain_closure`: how far the chain camera, world, wrist of the file is from closing.
- `wrist_error_cm`, `wrist_error_deg`: the episode into actions and back out, wrists of every chunk in both frames.
- `eigengrasp_error_deg`: ten weights and back, mean over joints; fitted on the whole episode, and on its first 17
  frames for the last 8. `per_joint_deg` has every joint.
- `retargeting`: joints alone in place of rotations, as EgoDex has them, against the annotated rotations; and on
  synthetic hands whose pose is known, with bones of other proportions.
- `wrist_path_cm`: way of the wrist in those 17 frames and in the rest. The hand reaches and then rests, so what is
  learned of the one part says nothing of the other: no policy is trained on this episode here, and
  examples/qwen_vla/families.py splits it in another way.

The last line of the output is JSON.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from record import provenance, write_results
from vla_kit.actions import (
    FINGER_JOINTS,
    REST_BONES,
    EigengraspBasis,
    decode_hands,
    hand_points,
    joint_angles_between,
    retarget_points,
    rotation_angle,
    to_matrix,
)
from vla_kit.data import RobotReader, hand_columns
from vla_kit.data.eigengrasp_file import save_eigengrasps
from vla_kit.data.hand_grasps import fit_eigengrasps
from vla_kit.data.readers.vitra import open_vitra, read_vitra, vitra_chain_error

FITTED = 17  # frames to which a basis is fitted; the others are held out


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episode", type=Path, required=True, help="VITRA's example episode, an .npz")
    parser.add_argument("--results", type=Path, help="file of docs/results to write the figures to")
    settings = parser.parse_args()
    basis = fit_eigengrasps([open_vitra(settings.episode)])
    figures: dict[str, Any] = {"chain_closure": vitra_chain_error(settings.episode)}
    figures |= round_trip(settings.episode, basis)
    figures |= grasps(settings.episode, basis)
    figures["retargeting"] = retargeting(settings.episode)
    figures["wrist_path_cm"] = wrist_path(settings.episode)
    if settings.results:
        write_results(settings.results, figures | provenance())
    print(json.dumps({"name": "hands", **figures}))


def round_trip(path: Path, basis: EigengraspBasis) -> dict[str, float]:
    """Largest error of the wrist over every chunk of the episode, relative to wrist and to camera."""
    record, away, turned = read_vitra(path), 0.0, 0.0
    for relative_to in ("wrist", "camera"):
        reader = reader_of(path, basis, relative_to)
        for frame in range(int(reader.num_steps[0])):
            start = record.right.wrist[frame] if relative_to == "wrist" else record.camera[frame]
            starts = torch.from_numpy(np.stack([np.eye(4), start]))
            found = decode_hands(reader.chunk(0, frame, 16).double(), start=starts, basis=basis)[0][:, 1]
            expected = torch.from_numpy(record.right.wrist[frame + 1 :][: len(found)])
            away = max(away, 100 * float((found[:, :3, 3] - expected[:, :3, 3]).norm(dim=-1).max()))
            angles = rotation_angle(found[:, :3, :3].mT @ expected[:, :3, :3])
            turned = max(turned, float(torch.rad2deg(angles).max()))
    return {"wrist_error_cm": away, "wrist_error_deg": turned}


def grasps(path: Path, basis: EigengraspBasis) -> dict[str, Any]:
    """Error of ten weights, on the poses that they were fitted to and on others of the same episode."""
    fingers = torch.from_numpy(read_vitra(path).right.fingers)
    with tempfile.TemporaryDirectory() as folder:
        first = fit_eigengrasps([open_vitra(first_frames(path, Path(folder)))])
    error = basis.reconstruction_error(fingers)
    return {
        "eigengrasp_error_deg": float(error.mean()),
        "eigengrasp_error_deg_held_out": float(first.reconstruction_error(fingers[FITTED:]).mean()),
        "per_joint_deg": {name: round(float(angle), 4) for name, angle in zip(FINGER_JOINTS, error, strict=True)},
    }


def first_frames(path: Path, folder: Path) -> Path:
    """The episode without the frames that are held out."""
    arrays = dict(np.load(path))
    cut = {key: value[:FITTED] if len(value) == len(arrays["extrinsics"]) else value for key, value in arrays.items()}
    np.savez(folder / "first.npz", **cut)
    return folder / "first.npz"


def retargeting(path: Path) -> dict[str, float]:
    """Mean error of poses that are made of points."""
    record = read_vitra(path).right
    wrist, fingers = torch.from_numpy(record.wrist), torch.from_numpy(record.fingers)
    joints = torch.from_numpy(np.load(path)["right/joints_worldspace"])
    figures = {f"real_{name}": value for name, value in errors(joints, wrist, fingers).items()}
    generator = torch.Generator().manual_seed(0)
    bent = fingers[torch.randint(len(fingers), (500,), generator=generator)]
    bent = bent + 0.1 * torch.randn(bent.shape, generator=generator, dtype=bent.dtype)
    turns = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64).repeat(500, 1, 1)
    pose[:, :3, :3] = to_matrix(turns, "axis_angle")
    figures |= {f"synthetic_{name}": value for name, value in errors(hand_points(pose, bent), pose, bent).items()}
    bones = torch.tensor(list(REST_BONES.values()), dtype=torch.float64) / 1000
    other = bones * (1 + 0.1 * torch.randn(bones.shape, generator=generator, dtype=bones.dtype))
    points = hand_points(pose, bent, bones=other)
    return figures | {f"other_bones_{name}": value for name, value in errors(points, pose, bent).items()}


def errors(points: torch.Tensor, wrist: torch.Tensor, fingers: torch.Tensor) -> dict[str, float]:
    """Of the wrist, and of the finger joints without and with the thumb's [degree]."""
    found, bent = retarget_points(points)
    joints = joint_angles_between(bent, fingers)
    return {
        "wrist_deg": float(torch.rad2deg(rotation_angle(found[:, :3, :3].mT @ wrist[:, :3, :3])).mean()),
        "fingers_deg": float(joints[:, :12].mean()),
        "thumb_deg": float(joints[:, 12:].mean()),
    }


def wrist_path(path: Path) -> dict[str, float]:
    """Way of the wrist before and after the last frame that the eigengrasps of the first part know."""
    steps = 100 * np.linalg.norm(np.diff(read_vitra(path).right.wrist[:, :3, 3], axis=0), axis=-1)
    return {"first": float(steps[: FITTED - 1].sum()), "rest": float(steps[FITTED - 1 :].sum())}


def reader_of(path: Path, basis: EigengraspBasis, relative_to: str) -> RobotReader:
    with tempfile.TemporaryDirectory() as folder:
        save_eigengrasps(basis, Path(folder) / "basis.safetensors")
        source = open_vitra(path, basis=str(Path(folder) / "basis.safetensors"))
    return RobotReader(source, embodiment="human_hands", actions=hand_columns(relative_to))


if __name__ == "__main__":
    main()
