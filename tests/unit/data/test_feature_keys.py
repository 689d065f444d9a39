import pytest

from vla_kit.data.feature_keys import lerobot_keys
from vla_kit.errors import SettingError


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("action", "action"),
        ("actions", "action"),
        ("steps/action", "action"),
        ("obs/robot0_eef_pos", "observation.robot0_eef_pos"),
        ("observations/qpos", "observation.qpos"),
        ("/observations/qpos", "observation.qpos"),
        ("observation/state", "observation.state"),
        ("observation.state", "observation.state"),
        ("next_obs/robot0_eef_pos", "next_obs.robot0_eef_pos"),
        ("obstacle/pose", "obstacle.pose"),
        ("is_last", "is_last"),
    ],
)
def test_columns_follow_the_rule(column, name):
    keys = lerobot_keys([column] if name == "action" else ["action", column], [])
    assert keys.columns[name] == (column,)


@pytest.mark.parametrize(
    ("camera", "name"),
    [
        ("obs/agentview_image", "observation.images.agentview_image"),
        ("observations/images/cam_high", "observation.images.cam_high"),
        ("observation/image_0", "observation.images.image_0"),
        ("steps/observation/image", "observation.images.image"),
        ("observation.images.top", "observation.images.top"),
        ("observation.image", "observation.images.image"),
        ("camera", "observation.images.camera"),
        ("next_obs/agentview_image", "observation.images.next_obs.agentview_image"),
    ],
)
def test_cameras_follow_the_rule(camera, name):
    assert lerobot_keys(["action"], [camera]).cameras == {name: camera}


def test_counters_of_the_source_are_left_out():
    counters = ("timestamp", "frame_index", "task_index", "annotation.human.task_description")
    keys = lerobot_keys(["action", *counters], [])
    assert list(keys.columns) == ["action"]
    assert keys.left_out == counters


def test_overrides_rename_leave_out_and_join_in_their_order():
    keys = lerobot_keys(
        ["grip", "arm", "observations/qpos", "reward"],
        ["cam", "blank"],
        {"arm": "action", "grip": "action", "observations/qpos": "observation.state", "reward": "", "blank": ""},
    )
    assert keys.columns == {"action": ("arm", "grip"), "observation.state": ("observations/qpos",)}
    assert keys.cameras == {"observation.images.cam": "cam"}
    assert keys.left_out == ("reward", "blank")


@pytest.mark.parametrize(
    ("columns", "cameras", "overrides", "text"),
    [
        (["state"], [], {}, r"keys must call a column 'action', got none for \['state'\]"),
        (["action"], [], {"x": "y"}, "keys must name columns or cameras .*, got 'x'"),
        (["action", "x"], [], {"x": "a/b"}, r"keys\['x'\] must be a name without '/'"),
        (["action", "x"], [], {"x": "timestamp"}, "must be a name without '/' that is no counter's"),
        (["action", "x"], [], {"x": "annotation.x"}, "that is no counter's or annotation's, got 'annotation.x'"),
        (["action", "actions"], [], {}, "got 'action' for both 'action' and 'actions'"),
        (["action", "x"], [], {"x": "action"}, "got 'action' for both 'action' and 'x'"),
        (["action"], ["obs/top", "images/top"], {}, "got 'observation.images.top' for both 'obs/top' and 'images/top'"),
        (["action"], ["top"], {"top": "action"}, "got 'action' for both 'action' and 'top'"),
    ],
)
def test_names_that_cannot_be(columns, cameras, overrides, text):
    with pytest.raises(SettingError, match=text):
        lerobot_keys(columns, cameras, overrides)
