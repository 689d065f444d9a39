import io

import numpy as np
import pytest
import torch
from fake_policy import picture
from PIL import Image

from vla_kit.errors import DataError, DtypeError, EmbodimentError, SettingError, ShapeError
from vla_kit.serving import ObservationKeys, ObservationReader

ARM = ObservationKeys(embodiment="arm")
BOTH = ObservationKeys(embodiment="crane", views={"cam_high": "front", "cam_left_wrist": "images/hand"})


def test_openpis_keys_are_understood_as_they_are():
    message = {
        "observation/image": picture(1),
        "observation/wrist_image": picture(2),
        "observation/state": np.zeros(8),
        "prompt": "push the cup",
    }
    seen = ObservationReader([ARM])(message)
    assert (seen.embodiment, seen.instruction) == ("arm", "push the cup")
    assert {tag: int(view.max()) for tag, view in seen.views.items()} == {"cam_high": 1, "cam_left_wrist": 2}
    assert seen.views["cam_high"].shape == (3, 8, 8)


def test_the_plain_form_names_its_views_itself():
    message = {"views": {"ego": picture(3)}, "instruction": "lift", "state": [0.0, 1.0], "embodiment": "arm"}
    seen = ObservationReader([ARM, BOTH])(message)
    assert {tag: int(view.max()) for tag, view in seen.views.items()} == {"ego": 3}
    assert seen.instruction == "lift"


def test_each_robot_has_keys_of_its_own_and_the_order_of_its_views():
    reader = ObservationReader([ARM, BOTH])
    message = {"images": {"hand": picture(2)}, "front": picture(1), "prompt": "lift", "embodiment": "crane"}
    seen = reader(message)
    assert [(tag, int(view.max())) for tag, view in seen.views.items()] == [("cam_high", 1), ("cam_left_wrist", 2)]
    plain = {"views": {"cam_left_wrist": picture(2), "cam_high": picture(1)}, "instruction": "lift"}
    assert list(reader(plain | {"embodiment": "crane"}).views) == ["cam_high", "cam_left_wrist"]


def test_a_key_with_slashes_is_first_looked_up_as_it_is():
    reader = ObservationReader([ObservationKeys(embodiment="arm", views={"ego": "images/front"})])
    message = {"images/front": picture(1), "images": {"front": picture(2)}, "prompt": "lift"}
    assert int(reader(message).views["ego"].max()) == 1
    del message["images/front"]
    assert int(reader(message).views["ego"].max()) == 2


def test_colour_first_and_compressed_pictures_are_the_same_picture():
    noise = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, format="PNG")
    reader = ObservationReader([ARM])
    last, first, png = (
        reader({"observation/image": sent, "prompt": "lift"}).views["cam_high"]
        for sent in (noise, np.ascontiguousarray(noise.transpose(2, 0, 1)), file.getvalue())
    )
    assert torch.equal(last, torch.from_numpy(noise).permute(2, 0, 1))
    assert torch.equal(last, first)
    assert torch.equal(last, png)


def test_frames_of_a_history_reach_the_policy_with_their_rate():
    frames = np.stack([picture(value) for value in (1, 2, 3)])
    seen = ObservationReader([ARM])({"observation/image": frames, "prompt": "go", "frame_rate_hz": 2})
    assert seen.views["cam_high"].shape == (3, 3, 8, 8)
    assert seen.views["cam_high"][:, 0, 0, 0].tolist() == [1, 2, 3]
    assert seen.frame_rate_hz == 2.0


def test_a_robot_with_one_task_needs_no_words():
    reader = ObservationReader([ObservationKeys(embodiment="arm", default_instruction="sort the screws")])
    assert reader({"observation/image": picture()}).instruction == "sort the screws"
    assert reader({"observation/image": picture(), "prompt": "lift"}).instruction == "lift"


def test_blank_observations_have_what_the_policy_needs():
    arm, crane = ObservationReader([ARM, BOTH], state_sizes={"crane": 5}).blanks(16)
    assert (arm.embodiment, list(arm.views), arm.state) == ("arm", ["cam_high"], None)
    assert (crane.embodiment, list(crane.views)) == ("crane", ["cam_high", "cam_left_wrist"])
    assert crane.views["cam_high"].shape == (16, 16, 3)
    assert crane.state.tolist() == [0.0] * 5


def test_the_state_reaches_the_policy_and_has_the_size_that_it_reads():
    reader = ObservationReader([ARM, BOTH], state_sizes={"crane": 2})
    assert reader(GOOD | {"observation/state": [0.5, 1]}).state.tolist() == [0.5, 1.0]
    assert reader(GOOD | {"observation/state": np.array([1, 2])}).state.dtype == np.float32
    free = {"observation/image": picture(), "prompt": "lift", "embodiment": "arm"}
    assert reader(free).state is None
    assert reader(free | {"observation/state": np.ones(7)}).state.shape == (7,)
    with pytest.raises(DataError, match=r"state of 'crane' must be one row of 2 numbers, got ndarray of shape \(3,\)"):
        reader(GOOD | {"observation/state": np.ones(3)})
    with pytest.raises(DataError, match="state of 'crane' must be one row of 2 numbers, got none"):
        reader(GOOD)
    plain = {
        "views": {"cam_high": picture(), "cam_left_wrist": picture()},
        "instruction": "lift",
        "embodiment": "crane",
    }
    assert reader(plain | {"state": [3.0, 4.0]}).state.tolist() == [3.0, 4.0]


GOOD = {"front": picture(), "images": {"hand": picture()}, "prompt": "lift", "embodiment": "crane"}


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"embodiment": "boat"}, EmbodimentError, r"embodiment must be one of \['arm', 'crane'\], got 'boat'"),
        ({"embodiment": None}, EmbodimentError, "got None. Put it into every message"),
        ({"embodiment": ["crane"]}, EmbodimentError, "embodiment must be one of"),
        ({"front": None}, DataError, r"must have the pictures \['front', 'images/hand'\], got none under \['front'\]"),
        ({"images": {}}, DataError, r"got none under \['images/hand'\]"),
        ({"images": 3}, DataError, r"got none under \['images/hand'\]"),
        ({"prompt": None}, DataError, "prompt must be a text, got None"),
        ({"prompt": " "}, DataError, "prompt must be a text, got ' '"),
        ({"prompt": b"lift"}, DataError, "prompt must be a text"),
        ({"front": picture().astype(np.float32)}, DtypeError, r"views\['cam_high'\] must be uint8"),
        ({"front": picture()[:, :, 0]}, ShapeError, r"views\['cam_high'\] must have the shape"),
        ({"front": np.zeros((8, 8, 4), dtype=np.uint8)}, ShapeError, r"views\['cam_high'\] must have the shape"),
        ({"front": np.zeros((8, 0, 3), dtype=np.uint8)}, ShapeError, "must have 1 to 100 pixels"),
        ({"front": picture(size=11)}, ShapeError, "must have 1 to 100 pixels"),
        ({"front": b"\xff\xd8\xff garbage"}, DataError, r"views\['cam_high'\] must be a whole JPEG or PNG"),
        (
            {"front": [[1, 2]]},
            DataError,
            r"views\['cam_high'\] must be an array or the bytes of a JPEG or PNG, got list",
        ),
        ({"observation/state": np.array([1.0, np.nan])}, DataError, "observation/state must be finite, got NaN"),
        ({"observation/state": [1.0, float("inf")]}, DataError, "observation/state must be finite"),
        ({"observation/state": np.zeros((2, 2))}, DataError, "observation/state of 'crane' must be one row of numbers"),
        ({"observation/state": [1.0, "a"]}, DataError, "observation/state of 'crane' must be one row of numbers"),
        ({"observation/state": [[1.0], 2.0]}, DataError, "observation/state of 'crane' must be one row of numbers"),
        ({"observation": {"state": "full"}}, DataError, "observation/state of 'crane' must be one row of numbers"),
        ({"front": np.zeros((2, 8, 8, 3), dtype=np.uint8)}, ShapeError, "must have 1 to 100 pixels"),
        ({"front": np.zeros((0, 8, 8, 3), dtype=np.uint8)}, ShapeError, r"views\['cam_high'\] must have the shape"),
        ({"frame_rate_hz": 0}, DataError, "frame_rate_hz must be a number above 0, got 0"),
        ({"frame_rate_hz": float("nan")}, DataError, "frame_rate_hz must be a number above 0, got nan"),
        ({"frame_rate_hz": "2"}, DataError, "frame_rate_hz must be a number above 0, got '2'"),
        ({"views": {}, "instruction": "lift"}, DataError, "views must map view tags to pictures"),
        ({"views": [picture()], "instruction": "lift"}, DataError, "views must map view tags to pictures, got list"),
        (
            {"views": {"cam_high": picture()}, "instruction": "lift"},
            DataError,
            r"views of 'crane' must be the pictures of \['cam_high', 'cam_left_wrist'\], got \['cam_high'\]",
        ),
        ({"views": {"cam_high": picture()}}, DataError, "instruction must be a text, got None"),
    ],
)
def test_what_a_policy_should_not_see_is_refused(change, error, reason):
    reader = ObservationReader([ARM, BOTH], max_pixels=100)
    assert reader(GOOD).embodiment == "crane"
    with pytest.raises(error, match=reason):
        reader(GOOD | change)


def test_a_message_without_any_known_picture_names_what_it_holds():
    with pytest.raises(DataError, match=r"got none under .* among \['camera', 'prompt'\]"):
        ObservationReader([ARM])({"camera": picture(), "prompt": "lift"})


def test_refuses():
    with pytest.raises(SettingError, match="robots must hold at least one"):
        ObservationReader([])
    with pytest.raises(SettingError, match="robots must have an embodiment each"):
        ObservationReader([ARM, ARM])
    with pytest.raises(SettingError, match="max_pixels must be at least 1, got 0"):
        ObservationReader([ARM], max_pixels=0)
    with pytest.raises(SettingError, match=r"views\['cam_high'\] must be the key of a picture, got ''"):
        ObservationKeys(embodiment="arm", views={"cam_high": ""})
    with pytest.raises(SettingError, match="views of 'arm' must name at least one picture"):
        ObservationKeys(embodiment="arm", views={})
    with pytest.raises(SettingError, match="tag must be lower-case words"):
        ObservationKeys(embodiment="arm", views={"Front": "front"})
