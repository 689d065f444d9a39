import pytest

from vla_kit.envs import SHIFTS, TASKS, find_shift, make_env
from vla_kit.errors import SettingError


def test_held_out_sentences_are_in_no_demonstration():
    for task in TASKS.values():
        if task.name.startswith("miniworld/"):
            continue  # what its scenes are told is composed from the layout, so no sentence can be held out
        assert len(task.held_out) >= 4, task.name
        assert not set(task.held_out) & {sentence for other in TASKS.values() for sentence in other.sentences}


def test_held_out_sentences_of_a_pair_differ_in_the_direction_alone():
    right, left = (TASKS[f"metaworld/faucet-{name}"].held_out for name in ("open", "close"))
    assert [sentence.replace("right", "left") for sentence in right] == list(left)
    assert all("right" in sentence for sentence in right)


def test_held_out_instructions_depend_on_the_seed_alone():
    task = TASKS["metaworld/reach"]
    drawn = [task.held_out_instruction(seed) for seed in range(40)]
    assert drawn == [task.held_out_instruction(seed) for seed in range(40)]
    assert set(drawn) == set(task.held_out)


def test_shifts_belong_to_tasks():
    assert [find_shift(name, task="metaworld/reach").name for name in SHIFTS] == list(SHIFTS)
    assert [name for name, shift in SHIFTS.items() if shift.of_words] == ["instruction"]
    with pytest.raises(
        SettingError, match=r"shift must be one of \['instruction'\] for aloha/transfer-cube, got 'light'"
    ):
        find_shift("light", task="aloha/transfer-cube")
    with pytest.raises(SettingError, match=r"shift must be one of .* for metaworld/reach, got 'fog'"):
        find_shift("fog", task="metaworld/reach")
    with pytest.raises(SettingError, match="shift must change the scene, got 'instruction'"):
        make_env("metaworld/reach", shift="instruction")
