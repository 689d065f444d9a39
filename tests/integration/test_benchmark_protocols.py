"""The protocols in examples/qwen_vla/benchmarks say what the command line and vla-eval understand."""

import importlib
import inspect
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from vla_kit.cli import evaluate_checkpoint
from vla_kit.envs.libero_tasks import LIBERO_STEP_LIMITS, libero_task

BENCHMARKS = Path(__file__).parents[2] / "examples" / "qwen_vla" / "benchmarks"
OURS = sorted(BENCHMARKS.glob("*.yaml"))
VLA_EVAL = sorted((BENCHMARKS / "vla_eval").glob("*.yaml"))


@pytest.mark.parametrize("path", [*OURS, *VLA_EVAL], ids=lambda path: path.stem)
def test_opens_with_what_command_and_assumptions(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == ["# What", "# Run", "# Assumes"]
    assert str(path.relative_to(BENCHMARKS.parents[2])) in lines[1]


def parsed(path):
    parser = ArgumentParser()
    parser.add_function_arguments(evaluate_checkpoint)
    parser.add_argument("--config", action="config")
    return parser.parse_args(["--config", str(path), "--checkpoint=last.ckpt", "--output=out"])


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_evaluate_takes_every_setting(path):
    settings = parsed(path)
    assert settings.baseline_episodes == 0  # no expert for half of the suites
    for name in settings.tasks:
        suite, _, index = name.removeprefix("libero/").rpartition("-")
        assert int(index) < (90 if suite == "90" else 10)
        assert suite in LIBERO_STEP_LIMITS


def test_libero_is_the_papers_protocol():
    settings = parsed(BENCHMARKS / "libero.yaml")
    suites = Counter(name.removeprefix("libero/").rpartition("-")[0] for name in settings.tasks)
    assert suites == {"spatial": 10, "object": 10, "goal": 10, "10": 10}
    assert len(set(settings.tasks)) == 40
    assert settings.episodes == 50


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_libero_has_the_tasks(path):
    if find_spec("libero") is None:
        pytest.skip("pip install 'vla-kit[libero]' runs this test")
    assert all(libero_task(name.removeprefix("libero/")).name == name for name in parsed(path).tasks)


def test_widowx_is_384_episodes_and_robotwin_50_tasks():
    simpler = yaml.safe_load((BENCHMARKS / "vla_eval" / "simpler_widowx.yaml").read_text())["benchmarks"]
    assert sum(entry["episodes_per_task"] for entry in simpler) == 384
    assert {entry["params"]["task_name"] for entry in simpler} == {
        "widowx_stack_cube",
        "widowx_carrot_on_plate",
        "widowx_spoon_on_towel",
        "widowx_put_eggplant_in_basket",
    }
    for name, config in (("easy", "demo_clean"), ("hard", "demo_randomized")):
        entries = yaml.safe_load((BENCHMARKS / "vla_eval" / f"robotwin_{name}.yaml").read_text())["benchmarks"]
        assert len({entry["params"]["task_name"] for entry in entries}) == len(entries) == 50
        assert {entry["params"]["task_config"] for entry in entries} == {config}


@pytest.mark.parametrize("path", VLA_EVAL, ids=lambda path: path.stem)
def test_vla_eval_reads_the_file_and_its_benchmark_takes_every_parameter(path):
    if find_spec("vla_eval") is None:
        pytest.skip("pip install 'vla-kit[vla-eval]' runs this test")
    from vla_eval.config import EvalConfig, ServerConfig

    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert ServerConfig.from_dict(raw["server"]).url == "ws://localhost:8000"
    entries = [EvalConfig.from_dict(entry) for entry in raw["benchmarks"]]
    assert len({entry.resolved_name() for entry in entries}) == len(entries)
    known = set(EvalConfig.__dataclass_fields__)
    for entry in raw["benchmarks"]:
        assert set(entry) <= known
        module, _, name = entry["benchmark"].partition(":")
        benchmark = getattr(importlib.import_module(module), name)
        inspect.signature(benchmark).bind(**entry["params"])
