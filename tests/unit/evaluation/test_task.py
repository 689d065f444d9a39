import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from corridor import Corridor

from vla_kit.envs import TASKS, make_expert
from vla_kit.errors import SettingError
from vla_kit.evaluation import own_task, registered_task


def test_a_task_of_the_registry_knows_its_partner_and_its_shifts():
    task = registered_task("metaworld/faucet-open", image_size=64, shifts=["light", "instruction"])
    assert task.make_expert is make_expert
    assert "left" in task.swapped(1_000_000)
    assert task.make_env.keywords == {"image_size": 64}
    light, words = task.shifts["light"], task.shifts["instruction"]
    assert light.make_env.keywords == {"image_size": 64, "shift": "light"}
    assert light.instruction is None
    assert words.make_env == task.make_env
    assert words.instruction(1_000_000) in TASKS["metaworld/faucet-open"].held_out
    assert registered_task("metaworld/reach").swapped is None
    with pytest.raises(SettingError, match=r"shift must be one of \['instruction'\] for aloha/transfer-cube"):
        registered_task("aloha/transfer-cube", shifts=["pose"])


def test_a_task_of_your_own_is_closed_after_its_name_was_read():
    made = []

    def make():
        made.append(Corridor())
        return made[-1]

    task = own_task(make)
    assert (task.name, task.make_expert, task.swapped, dict(task.shifts)) == ("toy/corridor", None, None, {})
    assert made[0].closed
