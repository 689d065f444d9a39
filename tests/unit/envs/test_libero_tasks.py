"""LIBERO's tasks in words. The package is imitated, so these tests run where it is not installed."""

import os
import subprocess
import sys

import pytest

from vla_kit.embodiment import PRESETS, check_view_tag
from vla_kit.envs import find_task, libero_tasks, make_env
from vla_kit.errors import MissingExtraError, SettingError

THINGS = ["soup", "milk", "butter", "juice", "ham", "pie", "tea", "jam", "egg", "rice"]
TEN = [f"pick_up_the_{thing}_and_place_it_in_the_basket" for thing in THINGS]
KITCHENS = ["KITCHEN_SCENE10_close_the_drawer", "LIVING_ROOM_SCENE2_put_both_cups_in_the_basket"]


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    """The two things that are read of the package: where it is, and the table of its tasks."""
    benchmark = tmp_path / "libero" / "libero" / "benchmark"
    benchmark.mkdir(parents=True)
    (tmp_path / "libero" / "__init__.py").touch()
    table = {"libero_object": TEN, "libero_90": KITCHENS * 45}
    (benchmark / "libero_suite_task_map.py").write_text(f"libero_task_map = {table!r}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "libero", raising=False)
    libero_tasks._names.cache_clear()
    yield tmp_path
    libero_tasks._names.cache_clear()


def test_tasks_stand_in_the_order_of_the_benchmark():
    tasks = libero_tasks.libero_tasks("object")
    assert [task.name for task in tasks] == [f"libero/object-{index}" for index in range(10)]
    assert tasks[1].simulator_id == "libero_object/pick_up_the_milk_and_place_it_in_the_basket"
    assert tasks[1].sentences == ("pick up the milk and place it in the basket",)
    assert tasks[1] == find_task("libero/object-1")
    assert len(libero_tasks.libero_tasks("90")) == 90


def test_the_scene_is_no_part_of_the_sentence():
    assert find_task("libero/90-0").sentences == ("close the drawer",)
    assert find_task("libero/90-1").sentences == ("put both cups in the basket",)


def test_tasks_fit_the_preset_and_know_their_views():
    task = find_task("libero/object-0")
    assert len(task.disturbance.channels) == PRESETS[task.embodiment].action_space.size == 7
    assert not any(task.disturbance.channels[3:])  # a turned or dropped object teaches nothing
    assert [check_view_tag(tag) for tag in task.view_tags] == ["cam_high", "cam_left_wrist"]


def test_files_lie_in_the_package(package):
    path = libero_tasks.libero_file(find_task("libero/object-1"), folder="bddl_files", suffix=".bddl")
    assert path == package / "libero/libero/bddl_files/libero_object/pick_up_the_milk_and_place_it_in_the_basket.bddl"


def test_step_limits_are_those_of_openpi():
    assert dict(libero_tasks.LIBERO_STEP_LIMITS) == {"spatial": 220, "object": 280, "goal": 300, "10": 520, "90": 400}


@pytest.mark.parametrize("short", ["object-10", "object", "object--1", "object-x", "table-0", "90-90"])
def test_unknown_tasks_are_refused(short):
    with pytest.raises(SettingError, match=r"task of libero must be <suite>-<index> with a suite of \['spatial'.*got"):
        find_task(f"libero/{short}")


def test_unknown_suites_are_refused():
    with pytest.raises(SettingError, match=r"suite must be one of \['spatial', 'object', .* got 'long'"):
        libero_tasks.libero_tasks("long")


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(libero_tasks, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vla-kit\[libero\]'"):
        find_task("libero/object-0")


def test_the_rate_is_part_of_the_benchmark():
    with pytest.raises(SettingError, match="frame_skip must be None for libero/object-0, got 4"):
        make_env("libero/object-0", frame_skip=4)


def test_words_need_neither_package_nor_simulator():
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['libero.libero', 'robosuite', 'mujoco']))\n"
        "from vla_kit.envs import find_task\n"
        "assert find_task('libero/object-2').sentences == ('pick up the butter and place it in the basket',)\n"
        "assert 'libero' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
