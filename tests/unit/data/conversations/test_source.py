import io
import json
import pickle
from fractions import Fraction

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from vla_kit.data.conversations import ConversationSet, question_record, write_records
from vla_kit.data.conversations.pictures import sampled_frames
from vla_kit.data.conversations.source import ConversationSource
from vla_kit.data.video_pyav import PyAVEncoder
from vla_kit.errors import DataError, SettingError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def pixels(seed=0, size=(8, 10)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def asked(**beside):
    return {**beside, "conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "noise"}]}


def first_picture(source, index=0):
    return source[index].conversation.messages[0].content[0]


def test_records_of_different_forms_lie_in_one_file(tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "a.png")
    mixed = [asked(image="a.png"), question_record(["a.png"], "Why?", "x"), question_record([], "2 + 2?", "4")]
    (tmp_path / "list.json").write_text(json.dumps(mixed))
    write_records(mixed, tmp_path / "lines.jsonl")
    for name in ("list.json", "lines.jsonl"):
        source = ConversationSource(tmp_path / name)
        assert [source[index].conversation.messages[-1].content[0] for index in range(len(source))] == [
            "noise",
            "x",
            "4",
        ]
        assert torch.equal(first_picture(source).pixels, torch.from_numpy(pixels()).permute(2, 0, 1))
        assert source[2].dataset == source.name == name.split(".")[0]
        assert source[1].index == 1


def test_a_changed_file_is_read_anew(tmp_path):
    write_records([question_record([], "a", "b")], tmp_path / "x.jsonl")
    before = ConversationSource(tmp_path / "x.jsonl")
    write_records([question_record([], "a", "c")], tmp_path / "x.jsonl")
    after = ConversationSource(tmp_path / "x.jsonl")
    assert after[0].conversation.messages[1].content == ("c",)
    assert before.fingerprint != after.fingerprint
    assert after.fingerprint == ConversationSource(tmp_path / "x.jsonl").fingerprint
    assert after.fingerprint != ConversationSource(tmp_path / "x.jsonl", rate_hz=1).fingerprint


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_tables_with_pictures_inside(tmp_path, kind):
    file = io.BytesIO()
    Image.fromarray(pixels()).save(file, format="PNG")
    talk = [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "noise"}]
    rows = datasets.Dataset.from_dict({"images": [[{"bytes": file.getvalue(), "path": None}]], "messages": [talk]})
    if kind == "parquet":
        rows.to_parquet(tmp_path / "rows.parquet")
        source = ConversationSource(tmp_path / "rows.parquet")
    else:
        rows = datasets.Dataset.from_dict({"image": [file.getvalue()], "messages": [talk]}).cast_column(
            "image", datasets.Image()
        )
        datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / "rows")
        source = ConversationSource(tmp_path / "rows")
    assert torch.equal(first_picture(source).pixels, torch.from_numpy(pixels()).permute(2, 0, 1))


@pytest.fixture
def film(tmp_path):
    shades = np.repeat(np.arange(20, dtype=np.uint8) * 12, 16 * 16 * 3).reshape(20, 16, 16, 3)
    with PyAVEncoder(tmp_path / "film.mp4", rate_hz=10, height=16, width=16) as encoder:
        encoder.write(shades)
    return tmp_path / "film.mp4"


def test_a_video_is_seen_at_two_frames_a_second(tmp_path, film):
    write_records([asked(video="film.mp4")], tmp_path / "x.jsonl")
    picture = first_picture(ConversationSource(tmp_path / "x.jsonl"))
    assert picture.rate_hz == 2.0
    shades = picture.pixels.float().mean((1, 2, 3)) / 12
    torch.testing.assert_close(shades, torch.tensor([0.0, 5.0, 10.0, 15.0]), atol=0.4, rtol=0)
    few = first_picture(ConversationSource(tmp_path / "x.jsonl", max_frames=2))
    assert (len(few.pixels), few.rate_hz) == (2, pytest.approx(10 / 19))


def test_a_video_of_images_has_the_rate_that_it_says(tmp_path):
    for number in range(2):
        Image.fromarray(pixels(number)).save(tmp_path / f"{number}.png")
    part = {"type": "video", "video": ["0.png", "1.png"], "view": "ego"}
    record = question_record([], "What?", "noise")
    for rate in ({"rate_hz": 4}, {}):
        record["messages"][0]["content"] = [part | rate]
        write_records([record], tmp_path / f"{len(rate)}.jsonl")
    picture = first_picture(ConversationSource(tmp_path / "1.jsonl"))
    assert (picture.pixels.shape, picture.rate_hz, picture.view) == ((2, 3, 8, 10), 4.0, "ego")
    with pytest.raises(DataError, match="got no rate_hz"):
        ConversationSource(tmp_path / "0.jsonl")[0]


def test_frames_are_spread_evenly():
    for count, recorded, most in ((100, 30, 8), (7, 3, 16), (1, 30, 4), (61, 30, 16)):
        places, rate = sampled_frames(count, recorded_hz=recorded, rate_hz=2, most=most)
        assert places[0] == 0
        assert places[-1] < count
        assert len(places) == len(set(places)) <= most
        steps = np.diff(places)
        assert not len(steps) or abs(steps - recorded / rate).max() <= 1
    assert sampled_frames(61, recorded_hz=30, rate_hz=2, most=16) == ([0, 15, 30, 45, 60], 2.0)
    assert sampled_frames(5, recorded_hz=1, rate_hz=2, most=16) == ([0, 1, 2, 3, 4], 1.0)
    assert Fraction(sampled_frames(9, recorded_hz=4, rate_hz=4, most=5)[1]) == 2


def test_travels_to_workers(tmp_path):
    write_records([question_record([], "a", "b")], tmp_path / "x.jsonl")
    source = ConversationSet(path=str(tmp_path / "x.jsonl"), name="sums").open()
    copy = pickle.loads(pickle.dumps(source))
    assert copy[0] == source[0]
    assert copy[0].dataset == "sums"


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("missing.jsonl", None, "missing.jsonl"),
        ("broken.jsonl", '{"a": 1}\n{oh', r"must be a JSON, JSONL or parquet file, .*broken.jsonl: line 2: Expecting"),
        ("empty.jsonl", "", "empty.jsonl: it holds no conversation"),
        ("empty.json", "[]", "empty.json: it holds no conversation"),
    ],
)
def test_a_broken_file_is_refused_when_it_is_opened(tmp_path, name, content, text):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=text):
        ConversationSource(tmp_path / name)


def test_a_broken_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    write_records(
        [asked(image="a.png"), asked(image="b.png"), asked(image="http://x/c.png"), asked(image=3)],
        tmp_path / "x.jsonl",
    )
    source = ConversationSource(tmp_path / "x.jsonl")
    for index, text in enumerate(["readable images, got a.png", "that exist, got", "on this machine", "got 3"]):
        with pytest.raises(DataError, match=text) as error:
            source[index]
        assert f"x.jsonl, record {index} must" in str(error.value)


def test_settings_are_checked(tmp_path):
    with pytest.raises(SettingError, match="rate_hz must be above 0"):
        ConversationSource("x.jsonl", rate_hz=0)
    with pytest.raises(SettingError, match="max_frames must be at least 1"):
        ConversationSource("x.jsonl", max_frames=0)
    with pytest.raises(SettingError, match="weight must be at least 0 and finite, got -1"):
        ConversationSet(path="x", weight=-1)
    with pytest.raises(SettingError, match="num_conversations must be at least 1, got 0"):
        ConversationSet(path="x", num_conversations=0)
