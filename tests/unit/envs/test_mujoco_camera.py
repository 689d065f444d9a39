import numpy as np
import pytest

mujoco = pytest.importorskip("vla_kit.envs._mujoco", exc_type=ImportError).mujoco

from vla_kit.envs import SimulationError  # noqa: E402  (after the skip)
from vla_kit.envs.mujoco_camera import FreeCamera, ModelCameras  # noqa: E402
from vla_kit.errors import SettingError  # noqa: E402

XML = """<mujoco><worldbody><light pos="0 0 3"/>
<geom type="box" size=".3 .3 .3" rgba="{color} 1"/><site name="goal" pos="0 0 .6" size=".2" rgba="0 1 0 1"/>
</worldbody></mujoco>"""


def scene(color="1 0 0"):
    model = mujoco.MjModel.from_xml_string(XML.format(color=color))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def camera(model, **changes):
    settings = {"image_size": 32, "lookat": (0, 0, 0.3), "distance": 2.5, "azimuth": 90.0, "elevation": -30.0}
    return FreeCamera(model, **{**settings, **changes})


def test_slow_effects_are_off_before_the_first_picture():
    model, _ = scene()
    camera(model).close()
    assert (model.vis.quality.shadowsize, model.vis.quality.offsamples) == (0, 0)


def test_pictures_are_upright_and_new_arrays():
    model, data = scene()
    eye = camera(model, show_sites=True)
    first, second = eye.render(data, tag="cam_high"), eye.render(data, tag="cam_high")
    eye.close()
    np.testing.assert_array_equal(first, second)
    assert first is not second
    red, green = first[..., 0].astype(int), first[..., 1].astype(int)
    assert np.flatnonzero((green > 2 * red + 20).any(1)).mean() < np.flatnonzero((red > 2 * green + 20).any(1)).mean()


def test_sites_are_hidden_unless_asked_for():
    model, data = scene()
    hidden, shown = camera(model), camera(model, show_sites=True)
    pictures = [eye.render(data, tag="cam_high") for eye in (hidden, shown)]
    hidden.close()
    shown.close()
    assert (pictures[0][..., 1] > 2 * pictures[0][..., 0].astype(int) + 20).sum() == 0
    assert (pictures[1][..., 1] > 2 * pictures[1][..., 0].astype(int) + 20).sum() > 10


def test_closing_one_camera_leaves_another_alone():
    (red_model, red_data), (blue_model, blue_data) = scene("1 0 0"), scene("0 0 1")
    red, blue = camera(red_model), camera(blue_model)
    before = red.render(red_data, tag="cam_high")
    blue.render(blue_data, tag="cam_high")
    red.render(red_data, tag="cam_high")
    blue.close()
    blue.close()
    np.testing.assert_array_equal(red.render(red_data, tag="cam_high"), before)
    red.close()


def test_dropping_one_camera_leaves_another_alone():
    (red_model, red_data), (blue_model, blue_data) = scene("1 0 0"), scene("0 0 1")
    red, blue = camera(red_model), camera(blue_model)
    before = red.render(red_data, tag="cam_high")
    blue.render(blue_data, tag="cam_high")
    red.render(red_data, tag="cam_high")
    del blue
    np.testing.assert_array_equal(red.render(red_data, tag="cam_high"), before)
    red.close()


def test_a_picture_larger_than_the_frame_buffer_of_the_model():
    model, data = scene()
    eye = camera(model, image_size=700)
    assert eye.render(data, tag="cam_high").shape == (700, 700, 3)
    eye.close()


def test_looking_away_is_an_error_and_not_a_black_frame():
    model, data = scene()
    eye = camera(model, lookat=(50.0, 50.0, 50.0), elevation=30.0)
    with pytest.raises(SimulationError, match="frame of view 'cam_high' must show a scene, got a constant picture"):
        eye.render(data, tag="cam_high")
    eye.close()


def test_a_broken_driver_is_reported_with_the_command(monkeypatch):
    def broken(*_):
        raise RuntimeError("eglInitialize failed")

    monkeypatch.setattr(mujoco, "Renderer", broken)
    model, data = scene()
    eye = camera(model)
    with pytest.raises(SimulationError, match=r"eglInitialize failed\).*apt-get install -y libegl1 .* libosmesa6$"):
        eye.render(data, tag="cam_high")


def test_closed_is_closed():
    model, data = scene()
    eye = camera(model)
    eye.close()
    with pytest.raises(SimulationError, match="render must come before close"):
        eye.render(data, tag="cam_high")


def test_image_size_must_be_positive():
    with pytest.raises(SettingError, match="image_size must be >= 1, got 0"):
        camera(scene()[0], image_size=0)


EYES = """<mujoco><worldbody><light pos="0 0 3"/>
<camera name="above" pos="0 0 2.5"/><camera name="side" pos="0 -2.5 0" xyaxes="1 0 0 0 0 1"/>
<geom type="box" pos="-.3 .4 .2" size=".2 .2 .2" rgba="1 0 0 1"/>
<geom type="sphere" pos=".5 0 0" size=".25" rgba="0 1 0 1" group="2"/>
</worldbody></mujoco>"""


def eyes(**changes):
    model = mujoco.MjModel.from_xml_string(EYES)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    settings = {"image_size": 32, "names": {"cam_high": "above", "ego": "side"}}
    return ModelCameras(model, **{**settings, **changes}), data


def middle(picture, colour):
    """Row and column of what is clearly of one colour."""
    others = np.delete(picture.astype(int), colour, axis=2).max(axis=2)
    rows, columns = np.nonzero(picture[..., colour].astype(int) > 2 * others + 20)
    return rows.mean(), columns.mean()


def test_cameras_of_the_model_see_upright_and_not_mirrored():
    cameras, data = eyes()
    pictures = cameras.render(data)
    cameras.close()
    assert list(pictures) == ["cam_high", "ego"]
    row, column = middle(pictures["cam_high"], 0)  # the red box is left of and beyond the middle, and above it
    assert row < 14
    assert column < 14
    row, column = middle(pictures["ego"], 0)
    assert row < 15
    assert column < 14


def test_hidden_groups_are_not_drawn():
    (shown, data), (hidden, _) = eyes(), eyes(hidden_groups=[2])
    before, after = shown.render(data)["cam_high"], hidden.render(data)["cam_high"]
    shown.close()
    assert middle(before, 1)[1] > 17
    assert (after[..., 1].astype(int) > 2 * after[..., 0].astype(int) + 20).sum() == 0


def test_unknown_cameras_are_refused():
    with pytest.raises(SettingError, match=r"names must be cameras of the model, \['above', 'side'\], got 'below'"):
        eyes(names={"cam_high": "below"})


def test_closed_cameras_of_a_model_are_closed():
    cameras, data = eyes()
    cameras.close()
    cameras.close()
    with pytest.raises(SimulationError, match="render must come before close"):
        cameras.render(data)
