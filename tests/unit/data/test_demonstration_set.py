import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentError, ArgumentParser

from vla_kit.actions import ActionSpace, ChannelGroup
from vla_kit.data import demonstration_set
from vla_kit.data.action_columns import ActionColumns
from vla_kit.data.cleaning.decisions import Decision, Decisions
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.embodiment import EmbodimentSpec, History
from vla_kit.errors import DataError, SettingError

EEF = [
    {"name": "position", "kind": "eef_position", "reference": "delta", "unit": "m", "count": 3},
    {"name": "gripper", "kind": "gripper", "reference": "absolute", "unit": "0 closed, 1 open", "normalized": False},
]


def make_spec(*groups, rate_hz=10.0):
    space = ActionSpace([ChannelGroup(**group) for group in groups or EEF])
    return EmbodimentSpec("arm", robot_tag="Arm", rate_hz=rate_hz, chunk_size=4, action_space=space, arms="single")


@pytest.fixture
def source(monkeypatch):
    """Opened whatever the root: 3 channels and a gripper in `action`, 4 numbers in `state`, one empty episode."""
    rng = np.random.default_rng(0)

    def episode(length):
        action = np.concatenate([rng.normal(size=(length, 3)), np.arange(length)[:, None] // 2 % 2], axis=1)
        return MemoryEpisode(
            columns={"action": action, "state": rng.normal(size=(length, 4))},
            cameras={"top": rng.integers(0, 256, (length, 4, 4, 3), dtype=np.uint8)},
        )

    made = MemorySource([episode(length) for length in (5, 6, 1, 8)], name="lab", rate_hz=10)
    monkeypatch.setattr(demonstration_set, "open_source", lambda root, *, name, options: made)
    return made


def make_set(**settings):
    return DemonstrationSet(**{"root": "data/lab", "embodiment": "arm", **settings})


def delta(channels, **settings):
    return ActionColumns("action", channels=channels, representation="delta_chunk", reference="state", **settings)


def test_opens_a_reader_with_or_without_pictures(source):
    one = make_set(views={"cam": "top"}, rate_hz=5)
    assert one.open(with_views=False).frames(0, [0]) == {}
    reader = one.open()
    assert reader.frames(0, [0])["cam"].shape == (1, 3, 4, 4)
    assert (reader.embodiment, reader.rate_hz, reader.action_size) == ("arm", 5, 4)
    assert torch.equal(reader.actions(1), torch.from_numpy(source.column(1, "action")).float())


def test_takes_pieces_by_key_or_in_full(source):
    reader = make_set(actions=["state", delta("0:2")]).open()
    assert reader.recipe.sizes == (4, 2)


def test_caches_of_frames(source, tmp_path, monkeypatch):
    one = make_set(views={"cam": "top"}, frame_cache=str(tmp_path / "cache"))
    expected = source.images(3, "top", [7, 0])
    assert torch.equal(one.open().frames(3, [7, 0])["cam"], expected)
    monkeypatch.setattr(MemorySource, "images", None)
    assert torch.equal(one.open().frames(3, [7, 0])["cam"], expected)


def test_takes_the_first_episodes(source):
    reader = make_set().open()
    assert make_set().episodes(reader) == [0, 1, 2, 3]
    assert make_set(num_episodes=2).episodes(reader) == [0, 1]
    assert make_set(num_episodes=9).episodes(reader) == [0, 1, 2, 3]


def test_decisions_drop_episodes_before_they_are_counted(source, tmp_path):
    decisions = Decisions(
        data_set="lab",
        fingerprint=source.fingerprint,
        location="lab",
        num_episodes=4,
        entries=(Decision(episode=0, rule="static_actions"), Decision(episode=1, rule="jumps", keep=True)),
    )
    decisions.write(tmp_path / "decisions.json")
    one = make_set(decisions=str(tmp_path / "decisions.json"), num_episodes=2)
    assert one.episodes(one.open()) == [1, 2]
    everything = tuple(Decision(episode=index, rule="by hand") for index in range(4))
    Decisions(data_set="lab", fingerprint=source.fingerprint, location="lab", num_episodes=4, entries=everything).write(
        tmp_path / "decisions.json"
    )
    with pytest.raises(DataError, match=r"memory:lab must keep at least one episode, got all 4 left out. .*decisions"):
        one.episodes(one.open())


def test_decisions_of_another_data_set_are_refused(source, tmp_path):
    Decisions(data_set="other", fingerprint="5d41", location="other", num_episodes=4).write(tmp_path / "d.json")
    one = make_set(decisions=str(tmp_path / "d.json"))
    with pytest.raises(DataError, match="decisions must be of memory:lab"):
        one.episodes(one.open())


def test_episodes_without_an_action_are_left_out_and_reported(source):
    one = make_set(actions=[ActionColumns("state", pseudo=True)])
    with pytest.warns(UserWarning, match=r"memory:lab: left out 1 episodes without an action: \[2\]"):
        assert one.episodes(one.open()) == [0, 1, 3]


@pytest.mark.parametrize(
    ("actions", "groups"),
    [
        (["action"], EEF),
        ([delta("0:3"), ActionColumns("action", channels=[3])], EEF),
        ([ActionColumns("state", pseudo=True, representation="delta_step", channels="0:3")], EEF[:1]),
    ],
)
def test_what_fits_passes_without_a_word(source, actions, groups):
    one = make_set(actions=actions, num_episodes=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*without an action")
        warnings.filterwarnings("error", message=".*normalised")
        one.check(one.open(), make_spec(*groups))


def test_wrong_number_of_channels_names_columns_and_channels(source):
    one = make_set(actions=[delta("0:3"), "state"])
    with pytest.raises(
        DataError,
        match=r"memory:lab: actions must give the 4 channels of 'arm' \('position_0', .*'gripper'\), got 7: 'action' "
        r"gives 3, 'state' gives 4. Choose channels",
    ):
        one.check(one.open(), make_spec())


def test_wrong_rate_names_both(source):
    with pytest.raises(DataError, match=r"memory:lab: rate_hz must be that of 'arm', 20.0 Hz, got 10 Hz"):
        make_set().check(make_set().open(), make_spec(rate_hz=20.0))
    one = make_set(rate_hz=20.0)
    one.check(one.open(), make_spec(rate_hz=20.0))


def test_a_gripper_that_passes_the_normaliser_may_not_become_a_delta(source):
    one = make_set(actions=[delta("all")])
    with pytest.raises(
        DataError,
        match=r"gripper of 'arm' must stay as it is stored, .*delta_chunk of 'action' \(channel 3\). Give it an",
    ):
        one.check(one.open(), make_spec())


def test_meanings_that_contradict_the_robot(source):
    joints = {"name": "joint", "kind": "joint", "reference": "absolute", "unit": "rad", "count": 4}
    one = make_set(actions=[delta("all")])
    with pytest.raises(
        DataError, match=r"joint_0 of 'arm' must be a target, .* got delta_chunk of 'action' \(channel 0\)"
    ):
        one.check(one.open(), make_spec(joints))
    one = make_set(actions=[ActionColumns("state", pseudo=True)])
    with pytest.raises(DataError, match=r"joint_0 of 'arm' must be a displacement, .* got the next state of 'state'"):
        one.check(one.open(), make_spec({**joints, "reference": "delta"}))


def test_a_binary_gripper_normalised_by_mistake(source):
    by_mistake = {**EEF[1], "normalized": True}
    with pytest.warns(
        UserWarning, match=r"gripper of 'arm', 'action' \(channel 3\): only opens and closes in episode 0"
    ):
        make_set().check(make_set().open(), make_spec(EEF[0], by_mistake))


def test_a_wide_channel_that_is_not_normalised_by_mistake(source):
    by_mistake = {**EEF[0], "normalized": False}
    with pytest.warns(UserWarning, match=r"position_\d of 'arm', .*: reaches 2.* in episode 0, yet is not normalised"):
        make_set().check(make_set().open(), make_spec(by_mistake, EEF[1]))


def joints(count):
    return ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=count)])


def test_states_are_read_only_where_they_are_asked_for(source):
    one = make_set(state=["state"])
    assert (one.open().state_size, one.open(with_state=False).state_size, make_set().open().state_size) == (4, 0, 0)
    missing = make_set(state=["proprio"])
    missing.check(missing.open(with_state=False), make_spec())
    with pytest.raises(DataError, match=r"memory:lab: column must be a column of the data set, got 'proprio'"):
        missing.open()


def test_states_that_fit_pass(source):
    one = make_set(state=["state"])
    one.check(one.open(), replace(make_spec(), state_space=joints(4)), with_state=True)
    make_set().check(make_set().open(), make_spec(), with_state=True)  # a robot without a state
    make_set().check(make_set().open(), replace(make_spec(), state_space=joints(4)))  # a model that reads none


def test_states_that_do_not_fit_are_refused(source):
    one = make_set(state=[ActionColumns("state", channels="0:3")])
    with pytest.raises(DataError, match=r"memory:lab: state must give the 4 channels of 'arm' \('joint_0', .* got 3"):
        one.check(one.open(), replace(make_spec(), state_space=joints(4)))
    with pytest.raises(DataError, match=r"memory:lab: state must be left out for 'arm', .* got 3 channels"):
        one.check(one.open(), make_spec())
    with pytest.raises(
        DataError, match=r"memory:lab: state must name the columns .* of 'arm', .* got none. Add state to .* data/lab"
    ):
        make_set().check(make_set().open(), replace(make_spec(), state_space=joints(4)), with_state=True)


def test_refuses():
    for settings, text in (
        ({"weight": -1}, "weight must be at least 0 and finite, got -1 for data/lab"),
        ({"num_episodes": 0}, "num_episodes must be at least 1, got 0"),
        ({"stride": 0}, "stride must be at least 1, got 0 for data/lab"),
        ({"actions": "action"}, r"actions must be a list, got 'action' for data/lab. Such as \[action\]"),
        ({"actions": []}, r"actions must be a list, got \[\]"),
        ({"state": "state"}, r"state must be a list, got 'state' for data/lab. Such as \[observation.state\]"),
    ):
        with pytest.raises(SettingError, match=text):
            make_set(**settings)


class Mixture:
    """Stands for a datamodule."""

    def __init__(self, *, sets: Sequence[DemonstrationSet]) -> None:
        self.sets = sets


BLOCKS = """
mixture:
  class_path: {name}.Mixture
  init_args:
    sets:
      - root: data/lab
        embodiment: arm
        actions:
          - {{column: action, channels: "0:3", representation: delta_chunk, reference: state}}
          - {{column: action, channels: [3]}}
        state: [state, {{column: action, channels: [3]}}]
        views: {{cam: top}}
      - {{root: data/b, embodiment: crane, actions: [actions], weight: 2}}
      - {{root: data/c, embodiment: crane}}
"""


def parsed(path):
    parser = ArgumentParser(exit_on_error=False, parser_mode="yaml")
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(Mixture, "mixture")
    config = parser.parse_args([f"--config={path}"])
    return parser.instantiate(config).mixture.sets, parser.dump(config)


def test_blocks_of_yaml_become_sets_and_are_saved_again(tmp_path, source):
    (tmp_path / "run.yaml").write_text(BLOCKS.format(name=__name__))
    sets, saved = parsed(tmp_path / "run.yaml")
    assert [(one.root, one.embodiment, one.weight) for one in sets] == [
        ("data/lab", "arm", 1.0),
        ("data/b", "crane", 2.0),
        ("data/c", "crane", 1.0),
    ]
    assert list(sets[0].actions) == [delta("0:3"), ActionColumns("action", channels=[3])]
    assert [list(one.actions) for one in sets[1:]] == [["actions"], ["action"]]
    assert [list(one.state) for one in sets] == [["state", ActionColumns("action", channels=[3])], [], []]
    assert sets[0].open().chunk_relative
    assert sets[0].open().state_size == 5
    (tmp_path / "saved.yaml").write_text(saved)
    assert parsed(tmp_path / "saved.yaml")[0] == sets


def test_a_history_of_yaml_is_one(tmp_path, source):
    block = "history: {frames: 8, rate_hz: 2}\n        views:"
    (tmp_path / "run.yaml").write_text(BLOCKS.format(name=__name__).replace("views:", block, 1))
    sets, saved = parsed(tmp_path / "run.yaml")
    assert [one.history for one in sets] == [History(frames=8, rate_hz=2.0), None, None]
    (tmp_path / "saved.yaml").write_text(saved)
    assert parsed(tmp_path / "saved.yaml")[0] == sets


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("views:", "viewz:", "viewz"),
        ("representation: delta_chunk", "representation: delta", "Got value: delta"),
        ("embodiment: arm", "embodiment: [1]", "embodiment"),
    ],
)
def test_slips_in_yaml_are_refused(old, new, text, tmp_path):
    (tmp_path / "run.yaml").write_text(BLOCKS.format(name=__name__).replace(old, new))
    with pytest.raises(ArgumentError, match=text):
        parsed(tmp_path / "run.yaml")
