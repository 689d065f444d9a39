"""Four families on one head: the configuration trains all of them, and the script compares them with one each."""

import csv
import importlib
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml

from vla_kit.actions import EigengraspBasis, MaskedActions
from vla_kit.cli import VLACLI
from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.data.readers.vitra import open_vitra

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "data"))
from hand_files import write_vitra

EXAMPLE = Path(__file__).parents[2] / "examples" / "qwen_vla"
ROBOTS = {
    "single_arm": "metaworld_sawyer",
    "two_arms": "aloha_transfer",
    "navigation": "miniworld_agent",
    "hands": "human_hands",
}


@pytest.fixture(scope="module")
def families() -> Iterator[ModuleType]:
    """The script, on sets of five episodes each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        script = importlib.import_module("families")
        few = [replace(one, tasks=tuple(replace(task, episodes=5) for task in one.tasks)) for one in script.FAMILIES]
        patch.setattr(script, "FAMILIES", tuple(few))
        yield script


@pytest.fixture(scope="module")
def output(families: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `gather` leaves, its recordings replaced by noise."""
    folder, rng = tmp_path_factory.mktemp("families"), np.random.default_rng(0)

    def record(task, root, *, episodes, workers):
        cameras = families.features_of(task.name).values()
        spec = families.preset(next(one.robot for one in families.FAMILIES if task in one.tasks))
        features = {"action": {"dtype": "float32", "shape": (spec.action_space.size,)}}
        features |= {key: {"dtype": "image", "shape": (96, 96, 3)} for key in cameras}
        with LeRobotWriter(root, rate_hz=spec.rate_hz, features=features) as writer:
            for length in range(9, 9 + episodes):
                writer.add_episode(
                    rng.uniform(-1, 1, size=(length, spec.action_space.size)).astype(np.float32),
                    {key: rng.integers(0, 256, (length, 96, 96, 3), dtype=np.uint8) for key in cameras},
                    instruction="open the drawer",
                )

    write_vitra(folder / "hands.npz", steps=12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "record", record)
        families.gather(folder / "out", folder / "hands.npz", workers=0)
    return folder / "out"


def run_of(families, name, output, *, seed):
    return families.Run(name=name, seed=seed, output=output, steps=10, samples=2)  # a row of the log


def test_one_file_trains_four_families_each_with_its_own_log(stacked, tmp_path):
    files = stacked("fit", "stage3_sft.yaml", "data/families.yaml")
    few = ["--trainer.max_steps=4", "--trainer.log_every_n_steps=1", "--trainer.limit_val_batches=0"]
    VLACLI([*files, *few, "--data.batch_size=8", f"--trainer.default_root_dir={tmp_path}"])
    seen = json.loads((tmp_path / "status.json").read_text())["seen_families"]
    shares = {"single_arm": 37.1, "two_arms": 37.1, "navigation": 7.5, "hands": 6.0}
    assert seen.keys() == shares.keys()
    for name, share in shares.items():
        assert seen[name]["samples"] == pytest.approx(32 * share / sum(shares.values()), abs=2)
    with next(tmp_path.glob("logs/**/metrics.csv")).open() as file:
        rows = list(csv.DictReader(file))
    for robot in ROBOTS.values():
        losses = [float(row[f"train/loss/{robot}"]) for row in rows if row.get(f"train/loss/{robot}")]
        assert losses
        assert all(map(math.isfinite, losses))


def test_a_step_sees_as_many_samples_of_a_family_alone_and_together(families, output):
    found = {}
    for name in ("navigation", "joint"):
        run = run_of(families, name, output, seed=3)
        run.folder.mkdir(parents=True)
        settings = yaml.safe_load(families.write_settings(run).read_text())
        data = settings["data"]["init_args"]
        shares = data["shares"]["init_args"]["shares"]
        found[name] = data["batch_size"] * shares["navigation"] / sum(shares.values())
        assert set(data["shares"]["init_args"]["families"]) == {Path(one["root"]).name for one in data["sets"]}
        assert settings["seed_everything"] == data["seed"] == settings["model"]["backbone"]["init_args"]["seed"] == 3
    assert found == {"navigation": 2, "joint": 2}


@pytest.mark.parametrize("name", ROBOTS)
def test_no_chunk_that_is_asked_for_was_trained_on(name, families, output):
    family = next(one for one in families.FAMILIES if one.name == name)
    places = [
        {(one.dataset, one.episode, one.frame) for one in chunks}
        for chunks in (families.training_chunks(family, output), families.held_out_chunks(family, output))
    ]
    assert all(places)
    assert not places[0] & places[1]
    if family.tasks:  # whole episodes; the hands are one
        assert not {one[:2] for one in places[0]} & {one[:2] for one in places[1]}


def test_eigengrasps_are_those_of_the_hands(families, output):
    basis = families.load_eigengrasps(families.basis_file(output))
    expected = families.fit_eigengrasps([open_vitra(output / "data" / "hands")])
    torch.testing.assert_close(basis.directions, expected.directions)


def test_waypoint_errors_are_those_of_the_poses(families):
    """A turn that is missed at first turns all that follows: worked out by hand."""
    right = torch.tensor([[[1.0, 0.0, torch.pi / 2], [1.0, 0.0, 0.0], [9.0, 9.0, 9.0]]])
    given = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [torch.nan] * 3]])
    known = torch.tensor([[True, True, False]])
    found = families.waypoint_errors(given, right, known)  # (1, 0), (2, 0) for (1, 0), (1, 1)
    assert found == {"waypoint [m]": pytest.approx(math.sqrt(2) / 2), "waypoint [degree]": pytest.approx(90)}


def test_arm_errors_are_means_over_known_entries_of_what_moves(families):
    arm = families.FAMILIES[0]
    given, mask = torch.zeros(2, 2, 64), torch.zeros(2, 2, 64, dtype=torch.bool)
    mask[0, :, :4] = mask[1, 0, :4] = True
    right = torch.full((2, 2, 64), torch.nan)
    right[mask] = 7.0  # the gripper's
    right[0, :, :3], right[1, 0, :3] = 0.5, 2.0
    found = families.errors_of(
        arm, given, MaskedActions(right, mask), EigengraspBasis(torch.zeros(45), torch.eye(45)[:10])
    )
    assert found == {arm.measure: pytest.approx((0.5 + 0.5 + 2.0) / 3)}


def test_the_mean_chunk_leaves_out_what_is_unknown(families, output):
    family = families.FAMILIES[0]
    chunks = families.training_chunks(family, output)
    collate = families.Collate(lambda _: {}, prompter=lambda *_: "", channels=64)
    mean = families.mean_chunk(chunks, collate)
    last = [one.actions[11] for one in chunks if one.valid[11]]
    assert 0 < len(last) < len(chunks)
    torch.testing.assert_close(mean[0, 11, :4], torch.stack(last).mean(dim=0))
    assert not mean[..., 4:].any()


def test_intervals_are_students_over_the_seeds(families):
    """Differences 1, 2, 3: mean 2, deviation 1, and t of 4.30265 at two degrees of freedom, from a printed table."""
    mean, low, high = families.paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2.0, 2 - 4.30265 / math.sqrt(3), 2 + 4.30265 / math.sqrt(3)), abs=1e-5)


def test_one_seed_is_refused(families, tmp_path):
    with pytest.raises(SystemExit, match=r"seeds must be at least 2, got 1\. One pair has no interval\."):
        families.main(tmp_path, tmp_path / "hands.npz", seeds=1)


def test_the_table_says_what_the_results_say(families, output):
    names = [*ROBOTS, "joint"]
    measures = {
        name: [*errors, "flow loss"]
        for name, errors in zip(
            ROBOTS,
            (
                [families.FAMILIES[0].measure],
                [families.FAMILIES[1].measure],
                ["waypoint [m]", "waypoint [degree]"],
                ["wrist [cm]", "wrist [degree]"],
            ),
            strict=True,
        )
    }
    runs = [run_of(families, name, output, seed=seed) for seed in (0, 1, 2) for name in names]
    worse = {"single_arm": 0.0, "two_arms": 0.5, "navigation": -0.5, "hands": 0.0}
    for run in runs:
        run.folder.mkdir(parents=True)
        joint = run.name == "joint"
        wobble = 0.01 * run.seed * (1 if joint else -1)
        learned = {family.name: measures[family.name] for family in run.families}
        errors = {name: dict.fromkeys(some, 1.0 + wobble + joint * worse[name]) for name, some in learned.items()}
        numbers = {"seen": dict.fromkeys(learned, 4), "logged": dict.fromkeys(learned, 0.25)}
        run.result.write_text(json.dumps({"seconds": 60.0, "errors": errors, **numbers}))
    table = families.summary(runs, families.without_looking(output))
    rows = {(row["family"], row["error"]): row for row in table["rows"]}
    assert len(rows) == 10
    assert rows["navigation", "waypoint [m]"]["joint_is"] == "better"
    assert rows["hands", "wrist [cm]"]["joint_is"] == "within noise"
    arms = rows["two arms", "joint [rad]"]
    assert arms["joint_is"] == "worse"
    assert (arms["single"], arms["joint"], arms["percent"]) == pytest.approx((0.99, 1.51, 0.52 / 0.99))
    assert arms["per_seed"]["joint"] == pytest.approx([1.5, 1.51, 1.52])
    assert (arms["mean_chunk"] > 0, arms["no_motion"]) == (True, None)  # targets of joints know no motion
    assert rows["hands", "wrist [cm]"]["no_motion"] > 0
    assert table["joint_is"]["worse"] == "two arms in joint [rad], two arms in flow loss"
    assert table["joint_is"]["within noise"].startswith("single arm in position")
    assert families.told([], "better") == "nothing"
    assert [log["log"] for log in table["logs"]] == [f"train/loss/{robot}" for robot in ROBOTS.values()]
    assert {log["seen_single"] for log in table["logs"]} == {log["seen_joint"] for log in table["logs"]} == {4}


@pytest.mark.slow
def test_a_joint_run_trains_and_is_asked(families, output):
    run = run_of(families, "joint", output, seed=4)
    seconds = families.train_and_ask(run)
    result = json.loads(run.result.read_text())
    assert result["seconds"] == seconds > 0
    assert result["seen"] == dict.fromkeys(ROBOTS, 20)
    assert result["errors"].keys() == result["logged"].keys() == ROBOTS.keys()
    assert all(math.isfinite(error) for errors in result["errors"].values() for error in errors.values())
    before = run.result.stat().st_mtime_ns
    assert families.train_and_ask(run) == seconds
    assert run.result.stat().st_mtime_ns == before
