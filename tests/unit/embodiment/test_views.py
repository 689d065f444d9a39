import pytest

from vla_kit.embodiment import check_view_tag, frame_token, view_tokens, wrap_view
from vla_kit.errors import SettingError


def test_the_form_of_the_paper():
    assert wrap_view("ego", "IMG") == "<|ego_start|>IMG<|ego_end|>"
    assert view_tokens("cam_left_wrist") == ("<|cam_left_wrist_start|>", "<|cam_left_wrist_end|>")


def test_frames_stand_before_the_views_of_an_instant():
    assert frame_token(12) == "<|frame_12|>"
    with pytest.raises(SettingError, match="index must be at least 0, got -1"):
        frame_token(-1)


@pytest.mark.parametrize("tag", ["ego", "cam_high", "cam2", "cam_2"])
def test_good_tags(tag):
    assert check_view_tag(tag) == tag


@pytest.mark.parametrize(
    "tag", ["", "Ego", "cam left", "cam-left", "_cam", "cam_", "cam__left", "2cam", "ego|>", "ego\n"]
)
def test_bad_tags(tag):
    for function in (check_view_tag, view_tokens, lambda t: wrap_view(t, "IMG")):
        with pytest.raises(SettingError, match="tag must be lower-case words joined by underscores, got "):
            function(tag)


@pytest.mark.parametrize("tag", ["im", "vision", "object_ref", "box", "quad", "audio"])
def test_special_tokens_of_the_tokenizer_are_out_of_reach(tag):
    with pytest.raises(SettingError, match=rf"tag must not be one of .*got '{tag}'"):
        wrap_view(tag, "IMG")


def test_no_view_is_a_special_token_of_the_real_tokenizer(shared_data):
    text = (shared_data / "qwen3_tokenizer" / "tokenizer_config.json").read_text()
    for tag in ("ego", "cam_left_wrist", "cam_right_wrist"):
        assert all(token not in text for token in view_tokens(tag))
    assert "<|im_start|>" in text
