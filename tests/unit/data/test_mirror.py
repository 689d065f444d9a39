import pytest
import torch

from vla_kit.actions import QuantileStats, mirror_hands
from vla_kit.data import Collate, HandMirror, Sample, mirror_sample, mirror_words
from vla_kit.errors import SettingError, ShapeError


def sample(embodiment="human_hands", size=32, **changes):
    generator = torch.Generator().manual_seed(0)
    fields = {
        "embodiment": embodiment,
        "instruction": "Left hand: Hold the bowl. Right hand: Stir.",
        "views": {"ego": torch.randint(0, 256, (3, 4, 6), generator=generator, dtype=torch.uint8)},
        "actions": torch.randn(5, size, generator=generator),
        "valid": torch.tensor([True, True, True, True, False]),
        "dataset": "demo",
        "episode": 0,
        "frame": 0,
        "known": torch.rand(5, size, generator=generator) < 0.7,
    }
    return Sample(**(fields | changes))


def test_pose_picture_words_and_mask_change_sides_together():
    before = sample()
    after = mirror_sample(before)
    assert after.instruction == "Right hand: Hold the bowl. Left hand: Stir."
    assert torch.equal(after.views["ego"][:, :, 0], before.views["ego"][:, :, 5])
    assert torch.equal(after.actions, mirror_hands(before.actions))
    assert torch.equal(after.known[:, :16], before.known[:, 16:])
    assert torch.equal(after.valid, before.valid)


def test_twice_mirrored_is_nothing():
    before = sample(views={"cam_left_wrist": torch.arange(24, dtype=torch.uint8).reshape(1, 4, 6).expand(3, 4, 6)})
    once = mirror_sample(before)
    assert list(once.views) == ["cam_right_wrist"]
    after = mirror_sample(once)
    assert after.instruction == before.instruction
    assert torch.equal(after.actions, before.actions)
    assert torch.equal(after.known, before.known)
    assert torch.equal(after.views["cam_left_wrist"], before.views["cam_left_wrist"])


def test_frames_of_a_history_are_flipped_alike():
    clip = torch.arange(2 * 3 * 2 * 4, dtype=torch.uint8).reshape(2, 3, 2, 4)
    assert torch.equal(mirror_sample(sample(views={"ego": clip})).views["ego"], clip.flip(-1))


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("turn the LEFT knob, then the Right one", "turn the RIGHT knob, then the Left one"),
        ("move leftwards with the right-hand glove", "move rightwards with the left-hand glove"),
        ("take the leftmost cup", "take the rightmost cup"),
        ("the leftover bright copyright of the upright", "the leftover bright copyright of the upright"),
        ("turn it clockwise", "turn it counterclockwise"),
        ("Counterclockwise, please", "Clockwise, please"),
        ("", ""),
    ],
)
def test_words(text, mirrored):
    assert mirror_words(text) == mirrored
    assert mirror_words(mirrored) == text


def test_other_robots_pass_through_and_draws_repeat():
    mirror, arm = HandMirror(probability=1.0), sample("arm", size=7)
    assert mirror(arm) is arm
    half = HandMirror()
    draws = [half(sample(), generator=torch.Generator().manual_seed(seed)).instruction[0] for seed in range(40)]
    assert 8 < draws.count("R") < 32
    assert draws == [half(sample(), generator=torch.Generator().manual_seed(seed)).instruction[0] for seed in range(40)]
    with pytest.raises(SettingError, match="embodiments must list the human hands, got 'human_hands'"):
        HandMirror(embodiments="human_hands")
    with pytest.raises(SettingError, match=r"probability must lie in \[0, 1\], got 2"):
        HandMirror(2)
    with pytest.raises(ShapeError, match="32 channels of human hands, got 7 of arm"):
        mirror_sample(arm)


def test_collate_mirrors_before_it_pads():
    def prepare(observations):
        return {"seen": torch.stack([one.views["ego"] for one in observations])}

    given = sample()
    collate = Collate(
        prepare, prompter=lambda name, text: text, channels=33, augment_sample=HandMirror(probability=1.0)
    )
    batch = collate([given])
    expected = mirror_sample(given)
    assert torch.equal(batch.backbone_inputs["seen"][0], expected.views["ego"])
    assert batch.instructions == (expected.instruction,)
    assert torch.equal(batch.actions.mask[0, :, :32], expected.real)
    assert torch.equal(batch.actions.values[0, :, :32], torch.where(expected.real, expected.actions, 0))
    assert not batch.actions.mask[..., 32].any()


def test_statistics_cover_the_mirror_image_of_all_data():
    frames = torch.randn(500, 32, generator=torch.Generator().manual_seed(0)) + torch.linspace(-1, 1, 32)
    stats = QuantileStats.from_frames(frames.numpy())
    both = HandMirror().statistics("human_hands", stats)
    image = QuantileStats.from_frames(mirror_hands(frames).numpy())
    assert torch.allclose(both.q01, torch.minimum(stats.q01, image.q01), atol=1e-6)
    assert torch.allclose(both.q99, torch.maximum(stats.q99, image.q99), atol=1e-6)
    assert torch.allclose(both.maximum, torch.maximum(stats.maximum, image.maximum), atol=1e-6)
    assert HandMirror().statistics("arm", stats) is stats
    assert HandMirror(0.0).statistics("human_hands", stats) is stats
