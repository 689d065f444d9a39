"""Each rule on hand-made episodes on both sides of its threshold."""

import pickle
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from torch import Tensor

from vla_kit.data.cleaning import (
    THRESHOLDS,
    BlankFrames,
    CleaningRule,
    ContradictedLanguage,
    DirectionAgreement,
    MinimumFrames,
    MissingLanguage,
    RuleFindings,
    StateActionDistance,
    StaticActions,
    SuddenJumps,
    UnreadableFrames,
    UnusualLength,
    default_rules,
    find_faults,
    find_roles,
)
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.errors import DataError, SettingError

STEPS = 40
TIME = np.linspace(0, 1, STEPS)


def wave(*, channels: int = 2, phase: float = 0.0, steps: int = STEPS) -> np.ndarray:
    """A smooth motion of range 2."""
    time = np.linspace(0, 2 * np.pi, steps)[:, None]
    return np.sin(time + phase + np.arange(channels))


def follow(target: np.ndarray, *, delay: int = 1) -> np.ndarray:
    return np.concatenate([np.repeat(target[:1], delay, axis=0), target[:-delay]])


def episode(
    action: np.ndarray, state: np.ndarray | None = None, *, cameras: dict[str, np.ndarray] | None = None, text: str = ""
) -> MemoryEpisode:
    columns = {"action": action, **({} if state is None else {"state": state})}
    return MemoryEpisode(columns=columns, cameras=cameras or {}, instruction=text)


def judge(rule: CleaningRule, episodes: Sequence[MemoryEpisode]) -> RuleFindings:
    source = MemorySource(episodes, rate_hz=10)
    return find_faults(source, [rule], roles=find_roles(source)).rules[0]


def test_actions_that_stand_still_are_dropped_just_below_the_threshold():
    def standing(deviation: float) -> MemoryEpisode:
        moving = np.resize([deviation, -deviation], STEPS)  # standard deviation = deviation
        return episode(np.stack([moving, np.full(STEPS, 3.0)], axis=1))

    found = judge(StaticActions(), [standing(0.0011), standing(0.0009), standing(0.0)])
    assert found.dropped == (2, 1)
    assert found.nearly_dropped == (0,)
    assert found.judgement.values == pytest.approx([0.0011, 0.0009, 0.0])


def test_one_moving_channel_among_25_constant_ones_is_no_static_action():
    action = np.zeros((STEPS, 26))
    action[:, 7] = TIME
    assert judge(StaticActions(), [episode(action)]).dropped == ()


def test_fewer_frames_than_the_minimum_are_dropped_zero_among_them():
    episodes = [episode(wave(steps=steps)) for steps in (9, 10, 25)] + [episode(np.zeros((0, 2)))]
    found = judge(MinimumFrames(), episodes)
    assert found.dropped == (3, 0)
    assert found.nearly_dropped == (1,)


def test_presets_hold_the_published_numbers():
    assert {name: each.minimum_frames for name, each in THRESHOLDS.items()} == {
        "bc_z": 41, "bridge": 10, "galaxea": 50, "rt_1": 12, "rdt": 30, "droid": 40, "rh20t": 20, "robocoin": 60,
        "robomind_v1": 30, "robomind_v2": 30,
    }  # fmt: skip
    assert {name: each.state_action_distance for name, each in THRESHOLDS.items()} == {
        "bc_z": 1.0, "bridge": 0.5, "galaxea": 0.5, "rt_1": 0.5, "rdt": 0.3, "droid": 0.5, "rh20t": 0.2,
        "robocoin": 0.2, "robomind_v1": 1.0, "robomind_v2": 0.5,
    }  # fmt: skip
    limits = {rule.name: rule.limit.threshold for rule in default_rules("droid")}
    assert (limits["minimum_frames"], limits["state_action_distance"]) == (40, 0.5)
    with pytest.raises(SettingError, match="preset must be one of"):
        default_rules("no such set")


def test_a_length_unlike_the_others_is_dropped_and_a_factor_of_two_is_not():
    lengths = [100] * 20 + [199, 51, 210, 30, 1000]
    found = judge(UnusualLength(), [episode(np.zeros((length, 1))) for length in lengths])
    assert set(found.dropped) == {22, 23, 24}
    assert "100 frames" in found.judgement.note


def test_lengths_that_spread_widely_are_all_usual():
    lengths = np.random.default_rng(0).lognormal(4, 0.5, size=60).astype(int) + 1
    assert judge(UnusualLength(), [episode(np.zeros((length, 1))) for length in lengths]).dropped == ()


@pytest.mark.parametrize("of", ["state", "action"])
def test_a_jump_is_dropped_and_a_fast_motion_is_not(of: str):
    rule = SuddenJumps(of=of, reference="absolute")

    def leaping(size: float) -> MemoryEpisode:
        values = wave()
        values[STEPS // 2 :, 0] += size
        still = wave()
        return episode(*((still, values) if of == "state" else (values, still)))

    found = judge(rule, [leaping(0.0)] * 6 + [leaping(-1.0), leaping(-3.0)])
    assert found.dropped == (7,)
    assert found.judgement.values[0] < 0.25
    assert 0.25 < found.judgement.values[6] < 0.5


def test_a_gripper_and_an_angle_that_wraps_do_not_jump():
    gripper = np.where(TIME > 0.5, 1.0, 0.0)[:, None]
    turning = (np.linspace(0, 4, STEPS)[:, None] + np.pi + 2) % (2 * np.pi) - np.pi  # wraps once
    assert np.abs(np.diff(turning[:, 0])).max() > 6
    others = [np.concatenate([gripper, wave()], axis=1)] * 6
    found = judge(SuddenJumps(), [episode(wave(), np.concatenate([each], axis=1)) for each in others])
    assert found.dropped == ()
    assert "channels 0" in found.judgement.note
    states = [np.concatenate([wave(channels=1, phase=i), wave(channels=1)], axis=1) * 3 for i in range(6)]
    states.append(np.concatenate([turning, wave(channels=1)], axis=1))
    assert judge(SuddenJumps(), [episode(wave(), state) for state in states]).dropped == ()


def test_an_arm_that_only_one_episode_uses_does_not_jump():
    idle = np.concatenate([wave(), 1e-4 * np.random.default_rng(0).normal(size=(STEPS, 1))], axis=1)
    used = np.concatenate([wave(), wave(channels=1)], axis=1)
    assert judge(SuddenJumps(), [episode(idle, idle)] * 9 + [episode(used, used)]).dropped == ()


def test_displacements_are_summed_before_they_are_looked_at():
    """Velocities may change at once; a displacement as large as the whole way may not."""

    def driven(leap: float) -> MemoryEpisode:
        delta = np.where(np.arange(STEPS) % 8 < 4, 0.05, -0.02)[:, None] * np.ones((1, 2))
        delta[10, 0] += leap
        return episode(delta, np.cumsum(delta, axis=0) - delta)

    found = judge(SuddenJumps(of="action"), [driven(0.0)] * 6 + [driven(3.0)])
    assert found.dropped == (6,)


def test_jumps_of_actions_need_a_meaning():
    found = judge(SuddenJumps(of="action"), [episode(wave())] * 3)
    assert found.judgement.values == (None,) * 3
    assert "the state follows neither" in found.judgement.note
    with pytest.raises(SettingError, match="of must be 'state' or 'action'"):
        SuddenJumps(of="reward")


def test_distance_of_state_and_action_by_hand():
    """One channel that lags by 0.3 of the range of both, one that follows: sqrt(0.3 ** 2 + 0)."""
    action = np.stack([np.linspace(0, 0.7, STEPS), np.linspace(0, 1, STEPS)], axis=1)
    lagging = action + np.array([0.3, 0.0])
    found = judge(StateActionDistance(), [episode(action, action + 0.001)] * 4 + [episode(action, lagging)])
    assert found.judgement.values[4] == pytest.approx(0.3, rel=1e-3)
    assert found.dropped == (4,)
    assert found.judgement.note == "Compared channels: 0-1."


def test_channels_of_another_scale_and_displacements_are_not_compared():
    action = wave(channels=3)
    state = action * np.array([1.0, 0.2, 1.0])
    state[:, 2] = np.cumsum(action[:, 2])
    found = judge(StateActionDistance(), [episode(action, state)] * 4)
    assert found.judgement.note == "Compared channels: 0."
    nothing = judge(StateActionDistance(), [episode(action, state[:, 1:])] * 4)
    assert nothing.judgement.values == (None,) * 4
    assert "wrong as a whole" in nothing.judgement.note
    told = judge(StateActionDistance(channels=[0, 1]), [episode(action, state)] * 4)
    assert told.dropped == (0, 1, 2, 3)


@pytest.mark.parametrize("kind", ["absolute", "delta"])
def test_a_state_that_goes_the_other_way_is_dropped(kind: str):
    action = wave()
    state = follow(action) if kind == "absolute" else np.cumsum(action, axis=0) - action
    found = judge(DirectionAgreement(), [episode(action, state)] * 6 + [episode(action, -state)])
    assert found.dropped == (6,)
    assert found.judgement.values[0] > 0.9
    assert found.judgement.values[6] < 0.1
    assert f"read as {kind}: 0-1" in found.judgement.note


def test_a_set_that_is_wrong_as_a_whole_is_named_and_found_when_the_meaning_is_told():
    episodes = [episode(wave(), -follow(wave()))] * 4
    # As displacements these waves would agree by accident in half of the moves, as targets never.
    assert judge(DirectionAgreement(reference="absolute"), episodes).dropped == (0, 1, 2, 3)
    noise = np.random.default_rng(0)
    found = judge(DirectionAgreement(), [episode(wave(), noise.normal(size=(STEPS, 2))) for _ in range(4)])
    assert found.judgement.values == (None,) * 4
    assert "does not follow" in found.judgement.note


def test_rules_about_the_state_say_that_there_is_none():
    for rule in (StateActionDistance(), DirectionAgreement(), SuddenJumps()):
        found = judge(rule, [episode(wave())] * 2)
        assert found.judgement.values == (None, None)
        assert "No state" in found.judgement.note


@pytest.mark.parametrize("text", ["", "  ", "n/a", "N/A.", "valid", "No_Language", "---", "42"])
def test_placeholders_are_no_language(text: str):
    assert judge(MissingLanguage(), [episode(wave(), text=text)]).dropped == (0,)


def test_sentences_are_language():
    texts = ["open the valid door", "Na klar, nimm die Tasse", "拿起杯子", "test the switch"]
    assert judge(MissingLanguage(), [episode(wave(), text=text) for text in texts]).dropped == ()


def test_a_sentence_that_fits_the_opposite_motion_is_dropped():
    rng = np.random.default_rng(0)

    def pulling(sign: float, text: str) -> MemoryEpisode:
        action = sign * TIME[:, None] * rng.uniform(0.8, 1.2, size=(1, 3)) + 0.02 * rng.normal(size=(STEPS, 3))
        return episode(action, text=text)

    right = [pulling(1, "Open the drawer.") for _ in range(6)] + [pulling(-1, "close the drawer") for _ in range(6)]
    found = judge(ContradictedLanguage(), [*right, pulling(-1, "open the drawer"), pulling(1, "stack the cups")])
    assert found.dropped == (12,)
    assert found.judgement.values[13] is None
    assert found.judgement.note == "1 pairs of opposite sentences compared."


def test_opposites_that_move_alike_are_not_compared():
    rng = np.random.default_rng(0)
    episodes = [episode(rng.normal(size=(STEPS, 3)), text=f"push {word}") for word in ["left", "right"] * 8]
    found = judge(ContradictedLanguage(), episodes)
    assert found.dropped == ()
    assert "1 more pairs left out" in found.judgement.note


class DamagedSource(MemorySource):
    """Frames from `first_bad` on cannot be decoded in episode 1."""

    first_bad = 10

    def images(self, index: int, key: str, indices: Sequence[int]) -> Tensor:
        if index == 1 and key == "top" and any(self.first_bad <= frame < self.first_bad + 3 for frame in indices):
            raise DataError("top.mp4 must be a readable video. Fetch it again.")
        return super().images(index, key, indices)


def pictures(seed: int = 0, steps: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(steps, 6, 8, 3), dtype=np.uint8)


def test_unreadable_frames_are_counted_where_every_frame_is_decoded():
    cameras = {"top": pictures(), "wrist": pictures(1)}
    source = DamagedSource([episode(wave(steps=20), cameras=cameras)] * 2)
    found = find_faults(source, [UnreadableFrames(frames=None)], roles=find_roles(source)).rules[0]
    assert found.judgement.values == (0.0, pytest.approx(3 / 40))
    assert found.dropped == (1,)
    sampled = find_faults(source, [UnreadableFrames(frames=2)], roles=find_roles(source)).rules[0]
    assert sampled.dropped == (), "two frames, the first and the last, do not see the middle"
    with pytest.raises(SettingError, match="frames must be at least 2"):
        UnreadableFrames(frames=1)


def test_blank_frames_are_dropped_and_a_camera_that_is_always_blank_is_left_out():
    black = np.zeros((20, 6, 8, 3), dtype=np.uint8)
    half = pictures()
    half[10:] = 7
    found = judge(
        BlankFrames(),
        [episode(wave(steps=20), cameras={"top": top, "wrist": black}) for top in (pictures(), half, pictures(2))],
    )
    assert found.dropped == (1,)
    assert found.judgement.values[1] == 0.5
    assert "left out: wrist" in found.judgement.note


def test_numbers_that_cannot_be_read_are_dropped_and_no_other_rule_fails():
    broken = wave()
    broken[3, 1] = np.nan
    source = MemorySource([episode(wave(), wave()), episode(broken, wave()), episode(wave(), wave())])
    findings = find_faults(source, default_rules(), roles=find_roles(source))
    found = {each.rule.name: each for each in findings.rules}
    assert found["unreadable_columns"].dropped == (1,)
    assert "NaN" in found["static_actions"].unmeasured[1]
    assert found["static_actions"].judgement.values[1] is None


def test_rules_survive_pickling_and_have_different_names():
    rules = default_rules()
    assert pickle.loads(pickle.dumps(rules)) == rules
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(isinstance(rule, CleaningRule) for rule in rules)


@pytest.mark.parametrize(
    ("columns", "action", "state"),
    [
        (("action", "observation.state"), ("action",), ("observation.state",)),
        (("actions", "states", "obs/robot0_joint_pos", "obs/robot0_eef_pos"), ("actions",), ("obs/robot0_eef_pos",)),
        (("action", "observations/qpos", "observations/qvel"), ("action",), ("observations/qpos",)),
        (("action.left_arm", "action.hand", "state.left_arm"), ("action.left_arm", "action.hand"), ("state.left_arm",)),
        (("action", "observation/state", "reward"), ("action",), ("observation/state",)),
    ],
)
def test_roles_are_found_by_name(columns: tuple[str, ...], action: tuple[str, ...], state: tuple[str, ...]):
    source = MemorySource([MemoryEpisode(columns={key: wave() for key in columns})])
    roles = find_roles(source)
    assert (roles.action, roles.state) == (action, state)


def test_unknown_roles_name_the_choices(make_plain: Callable[[], MemorySource]):
    with pytest.raises(DataError, match=r"action must name .* got 'acton'.*Choose from \['motion'\]"):
        find_roles(make_plain(), action=["acton"])
    with pytest.raises(DataError, match="must have actions, got the columns"):
        find_roles(make_plain())


@pytest.fixture
def make_plain() -> Callable[[], MemorySource]:
    return lambda: MemorySource([MemoryEpisode(columns={"motion": wave()})])
