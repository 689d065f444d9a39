import pytest

from vla_kit.data.set_blocks import check_set_blocks
from vla_kit.errors import SettingError

HEAD = """# three lines
# of
# comment
data:
  class_path: vla_kit.training.demonstrations.DemonstrationDataModule
  init_args:
    batch_size: 4
    sets:
"""


@pytest.fixture
def check(tmp_path):
    def run(block):
        (tmp_path / "über lab.yaml").write_text(HEAD + block, encoding="utf-8")
        check_set_blocks(tmp_path / "über lab.yaml")

    return run


def test_good_blocks_pass(check):
    check("""      - root: data/lab
        embodiment: lab_ur5e
        actions:
          - {column: action, channels: "0:6", representation: delta_chunk, reference: observation.state}
          - gripper
        state: [observation.state, {column: gripper, channels: [0]}]
        views: {cam_high: observation.images.top}
        history: {frames: 8, rate_hz: 2}
        decisions: lab-decisions.json
      - {root: data/b, embodiment: b}
""")


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "data: file.yaml", "data: {init_args: {sets: lab.yaml}}"])
def test_everything_else_is_left_to_the_command_line(text, tmp_path):
    (tmp_path / "other.yaml").write_text(text)
    check_set_blocks(tmp_path / "other.yaml")
    check_set_blocks(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (
            "{root: a, embodimnt: b}",
            r"line 9: data.init_args.sets\[0\] .* got 'embodimnt'. Did you mean 'embodiment'\?",
        ),
        (
            "{root: a, embodiment: b, history: {frames: 8, rate: 2}}",
            r"sets\[0\].history must have known keys, got 'rate'. Did you mean 'rate_hz'\?",
        ),
        (
            "{root: a, embodiment: b, history: {frames: 8}}",
            r"sets\[0\].history must have the keys \['frames', 'rate_hz'\], got \['frames'\]",
        ),
        ("{root: a}", r"line 9: data.init_args.sets\[0\] must have the keys \['root', 'embodiment'\], got \['root'\]"),
        (
            "root: a\n        embodiment: b\n        action: pose",
            r"über lab.yaml, line 11: .* got 'action'. Did you mean 'actions'\?",
        ),
        (
            "{root: a, embodiment: b, actions: [{column: c, repr: delta_step}]}",
            r"sets\[0\].actions\[0\] must have known keys, got 'repr'. .*'representation'",
        ),
        ("{root: a, embodiment: b, actions: [{channels: [1]}]}", r"actions\[0\] must have the keys \['column'\]"),
        (
            "{root: a, embodiment: b, actions: [{column: c, channels: 1:6}]}",
            r"actions\[0\].channels must be in quotes, got 1:6, which YAML reads as a number of base 60. Write '1:6'",
        ),
        ("{root: a, embodiment: b, actions: [{column: c, channels: [1:6]}]}", "must be in quotes, got 1:6"),
        ("{root: a, embodiment: b, state: [{colum: c}]}", r"state\[0\] must have known keys, got 'colum'"),
        ("{root: a, embodiment: b, state: [{column: c, channels: 1:6}]}", r"state\[0\].channels must be in quotes"),
    ],
)
def test_slips_are_named_with_file_line_and_remedy(block, text, check):
    with pytest.raises(SettingError, match=text):
        check(f"      - {block}\n")


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ("{path: a.jsonl, weigth: 1}", r"line 9: data.init_args.conversations\[0\] .* got 'weigth'. .*'weight'"),
        ("{weight: 1}", r"conversations\[0\] must have the keys \['path'\], got \['weight'\]"),
    ],
)
def test_sets_of_conversations_are_checked_too(tmp_path, block, text):
    head = HEAD.replace("    sets:", "    conversations:")
    (tmp_path / "talk.yaml").write_text(f"{head}      - {block}\n", encoding="utf-8")
    with pytest.raises(SettingError, match=text):
        check_set_blocks(tmp_path / "talk.yaml")
    (tmp_path / "talk.yaml").write_text(f"{head}      - {{path: a.jsonl, weight: 1}}\n", encoding="utf-8")
    check_set_blocks(tmp_path / "talk.yaml")
