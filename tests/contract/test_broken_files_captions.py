"""What is broken on disk is named with its file and a remedy, and what fails half-way leaves nothing behind.

The folders `captions`, `cleaning`, `conversations` and `synthesis` of `vla_kit.data`.
"""

import json
import os

import datasets
import numpy as np
import pytest
from contract_cases.data_captions import CAPTION, make_log, make_prompts, make_reviews, make_source
from contract_cases.data_cleaning import ROLES, make_decisions
from contract_cases.data_cleaning import make_source as make_measured
from contract_cases.data_conversations import RECORD, make_film
from contract_cases.data_synthesis import DESCRIPTION, MJCF, describe
from contract_cases.probe import faults_of_text
from PIL import Image

from vla_kit.data.captions.annotator import AnnotatorMessage
from vla_kit.data.captions.begun_captions import BegunCaptions
from vla_kit.data.captions.caption_log import CaptionLog
from vla_kit.data.captions.caption_reviews import CaptionReviews
from vla_kit.data.captions.outline import CaptionOutline
from vla_kit.data.captions.prompt_folder import PROMPT_FIELDS, PromptFolder
from vla_kit.data.captions.review_server import ReviewServer
from vla_kit.data.captions.transformers_annotator import TransformersAnnotator
from vla_kit.data.captions.usage import AnnotationUsage
from vla_kit.data.cleaning import (
    ColumnRoles,
    ContradictedCount,
    ContradictedGripper,
    ContradictedLanguage,
    Decisions,
    Judgement,
    MinimumFrames,
    StateActionDistance,
    find_faults,
)
from vla_kit.data.conversations import PictureSource, trajectory_record, write_records
from vla_kit.data.conversations.pictures import read_picture
from vla_kit.data.conversations.source import ConversationSource
from vla_kit.data.synthesis.arm import Arm, find_arm
from vla_kit.data.synthesis.arm_model import ArmModel
from vla_kit.data.synthesis.templates import Workspace, draw_task
from vla_kit.errors import AnnotatorError, DataError, SettingError

NOISE = bytes(range(255, 0, -1)) * 4


URDF = """
<robot name="gantry">
  <link name="base"><collision><geometry><mesh filename="base.stl"/></geometry></collision></link>
  <link name="arm"/><link name="hand"/>
  <joint name="x" type="prismatic"><parent link="base"/><child link="arm"/><axis xyz="1 0 0"/>
    <limit lower="-1" upper="1" effort="9" velocity="2"/></joint>
  <joint name="yaw" type="revolute"><parent link="arm"/><child link="hand"/><axis xyz="0 0 1"/>
    <limit lower="-4" upper="4" effort="9" velocity="2"/></joint>
</robot>
"""


def refused(error, text, call, *arguments, **named):
    """The call must raise this error, whose text says what to do."""
    with pytest.raises(error, match=text) as caught:
        call(*arguments, **named)
    assert not faults_of_text(str(caught.value), "")


@pytest.mark.parametrize("content", [b"", NOISE, b"[1]", b'{"format": "vla-kit captions 1"', None])
def test_a_folder_without_a_whole_header_holds_no_captions(tmp_path, content):
    folder = make_log(tmp_path).folder
    path = folder / "captions.json"
    path.unlink() if content is None else path.write_bytes(content)
    refused(DataError, f"folder must hold captions, got {folder}", CaptionLog, folder)


def test_a_file_is_no_folder_of_captions(tmp_path):
    (tmp_path / "captions.json").write_text("{}")
    refused(DataError, "folder must hold captions", CaptionLog, tmp_path / "captions.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fingerprint", None),
        ("location", 3),
        ("data_set", None),
        ("num_episodes", "two"),
        ("settings", []),
    ],
)
def test_the_header_of_captions_names_what_it_lacks(tmp_path, key, value):
    path = make_log(tmp_path).folder / "captions.json"
    header = json.loads(path.read_text())
    path.write_text(json.dumps({name: entry for name, entry in (header | {key: value}).items() if entry is not None}))
    refused(
        DataError, rf"captions\.json must hold {key}, got {value!r}".replace("[]", r"\[\]"), CaptionLog, path.parent
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"episode": -1}, "-1 is no number of at least 0"),
        ({"episode": "one"}, "'one' is no number"),
        ({"episode": 2}, r"must be of an episode in \[0, 2\), got 2"),
        ({"caption": 3}, "caption must be as described"),
        ({"outline": None}, "outline must be as described"),
        ({"frames": {"top": ["0"]}}, "'0' is no number"),
        ({"frames": []}, "AttributeError"),
        ({"usage": {"requests": "two"}}, "requests must be a whole number"),
        ({"usage": {"request": 2}}, "unexpected keyword argument"),
    ],
)
def test_a_broken_caption_is_named_by_its_line(tmp_path, change, text):
    log = make_log(tmp_path)
    path = log.folder / "captions.jsonl"
    with path.open("a") as file:
        file.write(json.dumps(log.records[0].plain() | change) + "\n")
    refused(DataError, rf"line 2 of .*captions\.jsonl .*{text}", CaptionLog, log.folder)


@pytest.mark.parametrize("line", [b"[1]\n", b"{\n", b"\xff\xfe\n"])
def test_a_line_that_is_no_caption_is_named(tmp_path, line):
    log = make_log(tmp_path)
    with (log.folder / "captions.jsonl").open("ab") as file:
        file.write(line)
    refused(DataError, r"line 2 of .*captions\.jsonl must be a caption", CaptionLog, log.folder)


def test_a_caption_that_does_not_fit_on_the_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    log = make_log(tmp_path)
    before = (log.folder / "captions.jsonl").read_bytes()
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, line: write(handle, line[:9]))
        refused(DataError, r"captions\.jsonl must be writable, got: the disk is full", log.append, log.records[0])
    assert (log.folder / "captions.jsonl").read_bytes() == before


def test_a_log_without_a_rate_cannot_be_reviewed(tmp_path):
    log = CaptionLog.begin(tmp_path / "captions", make_source(), {})
    refused(DataError, "must hold a rate_hz above 0 in its settings, got None", ReviewServer, make_source(), log)


@pytest.mark.parametrize("content", [b"", NOISE, b'{"format": "vla-kit caption reviews 1", "entr'])
def test_a_broken_file_of_reviews_is_named(tmp_path, content):
    path = make_reviews(tmp_path)
    path.write_bytes(content)
    refused(DataError, r"path must be a file of reviews, got .*reviews\.json", CaptionReviews.read, path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"entries": 3}, "must hold every key of reviews, got: TypeError"),
        ({"entries": [{"episode": "one", "verdict": "accepted", "digest": "5d41"}]}, "'one' is no number"),
        (
            {"entries": [{"episode": 1, "verdict": "corrected", "digest": "5d41", "caption": CAPTION | {"steps": []}}]},
            "episode 1: caption must be as described, got 1 fault: steps must be a list",
        ),
        ({"format": 3}, "must begin with"),
    ],
)
def test_a_broken_review_is_named(tmp_path, change, text):
    path = make_reviews(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused(DataError, rf"reviews\.json.*{text}", CaptionReviews.read, path)


@pytest.mark.parametrize(
    "content", [b"", NOISE, b"[]", b'{"outline": {"object": "pear"', b'{"outline": 3, "usage": {}}']
)
def test_a_broken_first_answer_is_named(tmp_path, content):
    begun = BegunCaptions(tmp_path)
    begun.keep(3, CaptionOutline(object="a pear", actions=("grasp it",)), AnnotationUsage(requests=1))
    (tmp_path / "3.json").write_bytes(content)
    refused(DataError, r"3\.json must hold the first answer of an episode", begun.find, 3)


def test_a_first_answer_with_a_wrong_number_is_named(tmp_path):
    begun = BegunCaptions(tmp_path)
    begun.keep(3, CaptionOutline(object="a pear", actions=("grasp it",)), AnnotationUsage(requests=1))
    path = tmp_path / "3.json"
    path.write_text(path.read_text().replace('"requests": 1', '"requests": "one"'))
    refused(DataError, r"3\.json must hold .*requests must be a whole number of at least 0, got 'one'", begun.find, 3)


def test_a_folder_without_prompts_is_refused(tmp_path):
    refused(SettingError, "prompts must hold a file among", PromptFolder, tmp_path)
    (tmp_path / "file").write_text("")
    refused(SettingError, "prompts must be a folder, got ", PromptFolder, tmp_path / "file")
    refused(SettingError, "prompts must be a folder, got ''", PromptFolder, "")


@pytest.mark.parametrize(("content", "text"), [(b" \n", "hold a prompt, got nothing"), (NOISE, "be a text in UTF-8")])
def test_a_prompt_that_is_no_text_is_named(tmp_path, content, text):
    (make_prompts(tmp_path) / "watch.txt").write_bytes(content)
    refused(SettingError, rf"watch\.txt must {text}", PromptFolder, tmp_path / "prompts")


def test_prompts_are_written_all_or_none(tmp_path):
    last = list(PROMPT_FIELDS)[-1]
    (tmp_path / f"{last}.txt").write_text("mine")
    refused(DataError, "folder must be one that can be written", PromptFolder().write, tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("content", [b"", NOISE, b'{"model_type": "qwen3_vl"', b'{"model_type": "no such model"}'])
def test_a_broken_checkpoint_ends_the_run(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    (tmp_path / "preprocessor_config.json").write_bytes(content)
    annotator = TransformersAnnotator(str(tmp_path))
    refused(
        AnnotatorError,
        f"checkpoint must be a model and a processor that transformers loads, got '{tmp_path}'",
        annotator.answer,
        [AnnotatorMessage("user", ("Well?",))],
    )


def test_a_checkpoint_that_is_missing_ends_the_run(tmp_path):
    annotator = TransformersAnnotator(str(tmp_path / "no such place"))
    refused(AnnotatorError, "checkpoint must be", annotator.answer, [AnnotatorMessage("user", ("Well?",))])


@pytest.mark.parametrize("content", [b"", NOISE, b'{"format": "vla-kit cleaning decisions 1", "entr'])
def test_a_broken_decision_file_is_named(tmp_path, content):
    path = make_decisions(tmp_path)
    path.write_bytes(content)
    refused(DataError, r"decisions\.json must be a decision file", Decisions.read, path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"num_episodes": "two"}, "num_episodes must be a number of at least 0, got 'two'"),
        ({"num_episodes": -1}, "num_episodes must be a number of at least 0, got -1"),
        ({"rules": ["minimum_frames"]}, "rules must have a name each, got 'minimum_frames'"),
        ({"rules": 3}, "TypeError"),
        ({"found": {"minimum_frames": ["one"]}}, "ValueError"),
        ({"found": []}, "AttributeError"),
        ({"entries": [{"episode": 0, "rule": "by hand", "value": "high"}]}, "value must be a number, got 'high'"),
        ({"entries": [{"episode": 0, "rule": "by hand", "threshold": []}]}, r"threshold must be a number, got \[\]"),
        ({"entries": [{"episode": 0, "rule": "by hand", "threshold": float("nan")}]}, "threshold must be finite"),
        ({"entries": [{"episode": 0, "rule": ""}]}, "rule must be a word"),
    ],
)
def test_a_broken_decision_is_named(tmp_path, change, text):
    path = make_decisions(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused(DataError, rf"decisions\.json.*{text}", Decisions.read, path)


@pytest.mark.parametrize("rule", [ContradictedGripper, ContradictedCount, StateActionDistance])
def test_channels_beyond_those_of_the_data_end_the_run(rule):
    refused(
        SettingError,
        r"channels must lie in \[0, 9\), got 9",
        find_faults,
        make_measured(),
        [rule(channels=[0, 9])],
        roles=ROLES,
    )


@pytest.mark.parametrize("pair", [("open",), ("Open", "close"), ("put on", "put off"), ("open", "close", "shut")])
def test_opposites_that_no_sentence_can_hold_are_refused(pair):
    refused(SettingError, "opposites must be pairs of words in small letters", ContradictedLanguage, opposites=[pair])


def test_columns_that_are_not_there_are_refused_before_anything_is_measured():
    rules = [MinimumFrames()]
    for roles, text in (
        (ColumnRoles(action=("acton",)), "action must name .* got 'acton'"),
        (ColumnRoles(action=("action",), state=("stat",)), "state must name .* got 'stat'"),
        (ColumnRoles(action=("action",), cameras=("top",)), "cameras must name .* got 'top'"),
    ):
        refused(DataError, text, find_faults, make_measured(), rules, roles=roles)
    refused(SettingError, r"action must be a tuple of keys, got 'action'", ColumnRoles, action="action")


def test_a_rule_that_judges_other_episodes_than_were_measured_is_named():
    class Forgetful(MinimumFrames):
        def judge(self, measured):
            return Judgement((3.0,))

    refused(
        SettingError,
        "minimum_frames must judge 2 episodes, got 1 values",
        find_faults,
        make_measured(),
        [Forgetful()],
        roles=ROLES,
    )


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("content", [b"", NOISE])
def test_noise_in_place_of_conversations_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"set.{suffix}"
    path.write_bytes(content)
    refused(DataError, rf"path must be a JSON, JSONL or parquet file, .*set\.{suffix}", ConversationSource, path)


def test_a_truncated_file_of_conversations_is_refused(tmp_path):
    datasets.Dataset.from_list([RECORD] * 9).to_parquet(tmp_path / "whole.parquet")
    (tmp_path / "whole.json").write_text(json.dumps([RECORD] * 9))
    for name in ("whole.parquet", "whole.json"):
        assert len(ConversationSource(tmp_path / name)) == 9
        content = (tmp_path / name).read_bytes()
        (path := tmp_path / f"cut_{name}").write_bytes(content[: len(content) // 2])
        refused(DataError, f"path must be a JSON, JSONL or parquet file, .*cut_{name}", ConversationSource, path)


def test_an_empty_folder_holds_no_conversations(tmp_path):
    refused(DataError, "path must be a JSON, JSONL or parquet file", ConversationSource, tmp_path)


@pytest.mark.parametrize(("name", "content"), [("set.jsonl", b"{}\n[1]\n"), ("set.json", b'[{}, "a"]')])
def test_a_record_that_is_no_object_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refused(DataError, r"(line 2|record 1): it must be an object, got (\[1\]|a)", ConversationSource, tmp_path / name)


def test_a_split_that_is_not_there_is_named(tmp_path):
    rows = datasets.Dataset.from_list([RECORD])
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "set")
    assert len(ConversationSource(tmp_path / "set", split="test")) == 1
    refused(
        DataError,
        r"split must be one of .*set, got 'val'\. Choose from \['test', 'train'\]",
        ConversationSource,
        tmp_path / "set",
        split="val",
    )


def test_a_column_of_another_kind_is_named(tmp_path):
    datasets.Dataset.from_list([{"messages": 3}]).to_parquet(tmp_path / "numbers.parquet")
    source = ConversationSource(tmp_path / "numbers.parquet")
    refused(DataError, r"numbers\.parquet, record 0 must hold messages or conversations", source.__getitem__, 0)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ({"rate_hz": float("nan")}, "rate_hz must be a number above 0, got nan"),
        ({"fps": "two"}, "rate_hz must be a number above 0, got 'two'"),
        ({"rate_hz": 0}, "rate_hz must be a number above 0, got 0"),
        ({"view": 3}, "view must be the tag of a camera, got 3"),
        ({"instant": "first"}, "instant must be a whole number of at least 0, got 'first'"),
    ],
)
def test_wrong_tags_of_a_picture_are_named(tmp_path, part, text):
    asked = [{"type": "video", "video": "film.mp4"} | part, {"type": "text", "text": "Well?"}]
    record = {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "Yes."}]}
    (tmp_path / "films.jsonl").write_text(json.dumps(record) + "\n")
    source = ConversationSource(tmp_path / "films.jsonl")
    refused(DataError, rf"films\.jsonl, record 0 must have pictures with right tags: {text}", source.__getitem__, 0)


def test_a_system_text_that_is_none_is_named(tmp_path):
    (tmp_path / "set.jsonl").write_text(json.dumps(RECORD | {"system": 3}) + "\n")
    source = ConversationSource(tmp_path / "set.jsonl")
    refused(DataError, r"record 0 must have a text as system, got 3", source.__getitem__, 0)


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "tiff", "webp", "bmp"])
def test_a_broken_picture_is_named(tmp_path, kind):
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a.{kind}")
    whole = (tmp_path / f"a.{kind}").read_bytes()
    picture = PictureSource(kind="image", source=f"a.{kind}")
    assert read_picture(picture, root=tmp_path, where="x").pixels.shape == (3, 32, 32)
    for content in (b"", NOISE, whole[: len(whole) // 2], whole[:20] + NOISE):
        (tmp_path / f"a.{kind}").write_bytes(content)
        refused(
            DataError, f"x must have readable images, got a.{kind}", read_picture, picture, root=tmp_path, where="x"
        )
    held = PictureSource(kind="image", source={"bytes": whole[: len(whole) // 2], "path": None})
    refused(DataError, r"x must have readable images, got \d+ bytes", read_picture, held, root=tmp_path, where="x")


def test_a_picture_too_large_to_open_is_named(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16)
    picture = PictureSource(kind="image", source="a.png")
    refused(DataError, "x must have readable images, got a.png", read_picture, picture, root=tmp_path, where="x")


def test_a_broken_video_is_named(tmp_path):
    film = make_film(tmp_path) / "film.mp4"
    whole = film.read_bytes()
    for content in (b"", NOISE, whole[: len(whole) // 2]):
        film.write_bytes(content)
        picture = PictureSource(kind="video", source="film.mp4")
        refused(DataError, r"film\.mp4", read_picture, picture, root=tmp_path, where="x")


@pytest.mark.parametrize("mode", ["w", "a"])
def test_records_are_written_all_or_none(tmp_path, mode):
    path = tmp_path / "sums.jsonl"
    assert write_records([RECORD], path) == 1
    assert write_records([RECORD, RECORD], path, mode="a") == 2
    before = path.read_bytes()
    assert before.count(b"\n") == 3

    def interrupted():
        yield RECORD
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_records(interrupted(), path, mode=mode)
    for value in (np.zeros(2), float("nan")):
        refused(
            DataError, "records must be JSON, got record 1: ", write_records, [RECORD, {"a": value}], path, mode=mode
        )
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_records_need_a_place_that_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "sums.jsonl"):
        refused(DataError, "path must be a file that can be written, got ", write_records, [RECORD], path)


def test_a_trajectory_that_is_not_finite_is_not_taught():
    for point in ((float("nan"), 0.0), (1.0, float("inf"))):
        refused(DataError, "waypoints must be finite", trajectory_record, {}, [(0.0, 0.0), point], step_s=0.5)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "must hold keys among"),
        (NOISE, "must be YAML"),
        (b"name: [gantry", "must be YAML"),
        (b"- gantry", "must hold keys among"),
        (DESCRIPTION.replace("home: [0.3, 0.0]\n", "").encode(), "must describe an arm, got: .*'home'"),
        (DESCRIPTION.replace("home: [0.3, 0.0]", "home: 0.3").encode(), "must describe an arm"),
        (DESCRIPTION.replace("[0.3, 0.0]", "[0.3, .nan]").encode(), "home must hold finite numbers"),
        (DESCRIPTION.replace("[0.3, 0.0]", "[0.3, low]").encode(), "home must hold finite numbers, got .*'low'"),
        (DESCRIPTION.replace("[1.0, 2.0]", "[1.0, 0]").encode(), "max_velocity must hold limits above 0"),
        (DESCRIPTION.replace("[0.3, 0.6]", "[0.3]").encode(), "radius_m must hold 2 numbers"),
        (DESCRIPTION.replace("[0.3, 0.6]", "[0.6, 0.3]").encode(), "radius_m must rise"),
        (DESCRIPTION.encode() + b"tool_quaternion_wxyz: [0, 0, 0, 0]", "tool_quaternion_wxyz must turn"),
        (DESCRIPTION.encode() + b"fixed: {x: open}", "fixed must hold finite numbers, got 'open' for x"),
        (DESCRIPTION.encode() + b"fixed: [x]", "must describe an arm"),
    ],
)
def test_a_broken_description_of_an_arm_is_named(tmp_path, content, text):
    path = tmp_path / "arm.yaml"
    path.write_bytes(content)
    refused(SettingError, rf"arm\.yaml.*{text}", find_arm, str(path))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        NOISE,
        MJCF[: len(MJCF) // 2].encode(),
        URDF.replace("base.stl", "no.stl").encode(),
        URDF.replace('velocity="2"', 'velocity="fast"').encode(),
        URDF.replace('<child link="hand"/>', "").encode(),
    ],
)
def test_a_broken_model_of_an_arm_is_named(tmp_path, content):
    arm = Arm(**describe(tmp_path))
    (tmp_path / "arm.xml").write_bytes(content)
    refused(DataError, r"arm\.xml must be a URDF or MJCF that MuJoCo reads", ArmModel, arm)


def test_a_workspace_without_room_is_refused_rather_than_searched_for_ever():
    refused(
        DataError,
        r"radius_m must leave room for 3 objects 0\.1 m apart, got \(0\.05, 0\.06\)",
        draw_task,
        "swap",
        Workspace(radius_m=(0.05, 0.06), yaw=0.0),
        np.random.default_rng(0),
    )
