"""Every change is seen and, but for the pose, does not touch the physics; each episode draws its own and undoes it."""

import numpy as np
import pytest

pytest.importorskip("vla_kit.envs.metaworld", exc_type=ImportError)

from vla_kit.envs import SHIFTS, make_env, random_actions
from vla_kit.envs.metaworld import MetaWorldEnv
from vla_kit.errors import SettingError

SEEN = [name for name, shift in SHIFTS.items() if not shift.of_words]
ACTIONS = random_actions(-np.ones(4), np.ones(4), rng=np.random.default_rng(0), steps=6)
TASK, SIZE = "faucet-open", 64


def look_and_act(env, seed):
    """First picture, picture and full state after some actions."""
    env.reset(seed)
    first = env.look()["cam_high"]
    for action in ACTIONS:
        env.step(action)
    data = env._simulator.data
    return first, env.look()["cam_high"], np.concatenate([data.qpos, data.qvel, data.mocap_pos.ravel()])


@pytest.fixture(scope="module")
def plain():
    env = MetaWorldEnv(TASK, image_size=SIZE)
    yield {seed: look_and_act(env, seed) for seed in (0, 1, 2)}
    env.close()


@pytest.fixture(params=SEEN)
def shifted(request):
    env = MetaWorldEnv(TASK, image_size=SIZE, shift=request.param)
    yield env, request.param
    env.close()


def test_it_is_seen_drawn_anew_and_does_not_touch_the_physics(shifted, plain):
    env, name = shifted
    found = {seed: look_and_act(env, seed) for seed in (0, 1, 2)}
    for seed, (first, last, state) in found.items():
        assert (first != plain[seed][0]).any(axis=2).mean() > 0.005, seed
        assert (last != plain[seed][1]).any(), seed
        assert np.array_equal(state, plain[seed][2]) == (name != "pose"), seed
    for part in look_and_act(env, 0), look_and_act(env, 0):  # whatever was drawn before
        for one, other in zip(part, found[0], strict=True):
            np.testing.assert_array_equal(one, other)
    changes = [found[seed][0].astype(int) - plain[seed][0] for seed in (0, 1)]
    assert (changes[0] != changes[1]).any()


def test_where_each_change_is_seen(plain):
    """Ornaments cover little; lights, camera and textures change most of the picture."""
    share = {}
    for name in SEEN:
        env = MetaWorldEnv(TASK, image_size=SIZE, shift=name)
        share[name] = np.mean([(look_and_act(env, seed)[0] != plain[seed][0]).any(axis=2).mean() for seed in (0, 1)])
        env.close()
    assert share["distractors"] < 0.15
    assert min(share["camera"], share["light"], share["texture"]) > 0.4


def test_the_camera_moves_as_far_as_it_says():
    env, before = MetaWorldEnv(TASK, image_size=16, shift="camera"), MetaWorldEnv(TASK, image_size=16)._camera.place
    places = []
    for seed in range(20):
        env.reset(seed)
        place = env._camera.place
        assert 8 <= abs(place.azimuth - before.azimuth) <= 15
        assert 4 <= abs(place.elevation - before.elevation) <= 8
        assert 0.05 <= abs(place.distance / before.distance - 1) <= 0.1
        assert place.lookat == before.lookat
        places.append(place)
    assert len(set(places)) == 20
    env.close()


def test_lights_keep_to_their_range_and_directions_stay_directions():
    env, untouched = MetaWorldEnv(TASK, image_size=16, shift="light"), MetaWorldEnv(TASK, image_size=16)
    before, factors = untouched._simulator.model, []
    for seed in range(20):
        env.reset(seed)
        model = env._simulator.model
        np.testing.assert_allclose(np.linalg.norm(model.light_dir, axis=1), 1.0)
        np.testing.assert_allclose(model.light_dir[:, 2], before.light_dir[:, 2])
        ratio = model.light_diffuse / before.light_diffuse
        np.testing.assert_allclose(ratio, np.broadcast_to(ratio[0], ratio.shape))
        factors.append(ratio[0].max())
    assert min(factors) >= 0.35 * 0.75
    assert max(factors) <= 1.8
    assert any(factor < 0.6 for factor in factors)
    assert any(factor > 1.0 for factor in factors)
    env.close()


def test_distractors_lie_on_the_table_clear_of_the_task():
    for task in ("faucet-open", "drawer-open", "reach"):
        env = MetaWorldEnv(task, image_size=16, shift="distractors")
        for seed in range(10):
            env.reset(seed)
            assert len(env._camera.ornaments) == 4
            data = env._simulator.data
            clear = [
                env._simulator.tcp_center,
                data.body({"reach": "obj", "drawer-open": "drawer"}.get(task, "faucetBase")).xpos,
            ]
            if task == "reach":  # where the goal is seen
                clear.append(env._simulator._target_pos)
            for ornament in env._camera.ornaments:
                place = np.array(ornament.position)
                assert ornament.position[2] == ornament.radius  # stands on the table
                assert min(np.linalg.norm(place[:2] - other[:2]) for other in clear) >= 0.2
        env.close()


def test_the_hand_starts_elsewhere_and_the_objects_do_not():
    env, plain_env = (MetaWorldEnv(TASK, image_size=16, shift=shift) for shift in ("pose", None))
    for seed in range(10):
        for one in (env, plain_env):
            one.reset(seed)
        offset = env._simulator.tcp_center - plain_env._simulator.tcp_center
        assert 0.07 <= abs(offset[0]) <= 0.15
        assert -0.01 <= offset[1] <= 0.06
        assert -0.01 <= offset[2] <= 0.09
        bases = [one._simulator.data.body("faucetBase").xpos for one in (env, plain_env)]
        np.testing.assert_array_equal(*bases)
    env.close()
    plain_env.close()


def test_two_tasks_of_a_pair_stay_equal_under_every_change():
    """A change that depends on the hidden goal would tell what to do."""
    for name in SEEN:
        pictures = []
        for task in ("metaworld/faucet-open", "metaworld/faucet-close"):
            env = make_env(task, image_size=SIZE, shift=name)
            env.reset(3)
            pictures.append(env.look()["cam_high"])
            env.close()
        np.testing.assert_array_equal(*pictures)


def test_refuses():
    with pytest.raises(SettingError, match=r"shift must be one of \['camera'.*got 'fog'"):
        MetaWorldEnv("reach", shift="fog")
