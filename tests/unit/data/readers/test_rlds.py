"""RLDS shards, written by the `tfrecord` library: reading, and every broken file there is."""

import io
import json
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tfrecord.example_pb2 import DESCRIPTOR
from tfrecord.writer import TFRecordWriter

from vla_kit.data.readers import rlds
from vla_kit.data.readers._rlds_features import read_features
from vla_kit.data.readers._shared_cache import SharedCache
from vla_kit.data.readers.rlds import RLDSSource
from vla_kit.data.source import CameraInfo, ColumnInfo, EpisodeSource
from vla_kit.errors import DataError

LENGTHS = (3, 1, 4)


def tensor(*shape: int, dtype: str = "float32", encoding: str = "none") -> dict[str, Any]:
    dimensions = {"dimensions": [str(size) for size in shape]} if shape else {}
    return {"tensor": {"shape": dimensions, "dtype": dtype, "encoding": encoding}}


def image(*shape: int, dtype: str = "uint8") -> dict[str, Any]:
    return {"image": {"shape": {"dimensions": [str(size) for size in shape]}, "dtype": dtype, "encodingFormat": "png"}}


def group(**features: Any) -> dict[str, Any]:
    return {"pythonClassName": "FeaturesDict", "featuresDict": {"features": features}}


STEPS = {
    "action": tensor(2),
    "is_first": tensor(dtype="bool"),
    "reward": tensor(dtype="float64"),
    "language_instruction": {"text": {}},
    "observation": group(
        state=tensor(2, 2, dtype="int32"),
        packed=tensor(3, dtype="float64", encoding="zlib"),
        image=image(4, 6, 3),
        depth=image(4, 6, 1, dtype="uint16"),
        strange=tensor(2, dtype="complex64"),
        cloud=tensor(-1, 3),
    ),
}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def pixels(episode: int, length: int) -> np.ndarray:
    return np.random.default_rng(episode).integers(0, 256, size=(length, 4, 6, 3), dtype=np.uint8)


def make_record(episode: int, length: int) -> dict[str, tuple[Any, str]]:
    return {
        "steps/action": ((np.arange(2 * length) + 10 * episode) / 8, "float"),
        "steps/is_first": ([1] + [0] * (length - 1), "int"),
        "steps/reward": (np.linspace(0, 1, length), "float"),
        "steps/language_instruction": ([f"task {episode}".encode()] * length, "byte"),
        "steps/observation/state": (np.arange(4 * length) - 5, "int"),
        "steps/observation/packed": ([zlib.compress(np.full(3, step / 3).tobytes()) for step in range(length)], "byte"),
        "steps/observation/image": ([png(picture) for picture in pixels(episode, length)], "byte"),
        "steps/observation/depth": ([b""] * length, "byte"),
    }


def write_shard(path: Path, records: Sequence[dict[str, tuple[Any, str]]]) -> None:
    writer = TFRecordWriter(str(path))
    for record in records:
        writer.write(record)
    writer.close()


@pytest.fixture
def write_set(tmp_path: Path) -> Callable[..., Path]:
    def write(
        folder: str = "Datensatz mit Öl/1.0.0",
        *,
        steps: dict[str, Any] = STEPS,
        edit: Callable[[dict[str, Any]], object] = lambda record: None,
        metadata: dict[str, Any] | None = None,
        lengths: Sequence[int] = LENGTHS,
    ) -> Path:
        root = tmp_path / folder
        root.mkdir(parents=True)
        tree = group(steps={"sequence": {"feature": group(**steps), "length": "-1"}}, **(metadata or {}))
        (root / "features.json").write_text(json.dumps(tree))
        records = [make_record(episode, length) for episode, length in enumerate(lengths)]
        edit(records[-1])
        write_shard(root / "toy-train.tfrecord-00000-of-00002", records[:2])
        write_shard(root / "toy-train.tfrecord-00001-of-00002", records[2:])
        write_shard(root / "toy-val.tfrecord-00000-of-00001", records[:1])
        splits = [{"name": "train", "shardLengths": ["2", "1"]}, {"name": "val", "shardLengths": ["1"]}]
        (root / "dataset_info.json").write_text(json.dumps({"name": "toy", "splits": splits}))
        return root

    return write


@pytest.fixture
def root(write_set) -> Path:
    return write_set()


def test_every_kind_of_number_is_a_column_and_nothing_else(tmp_path):
    integers = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
    numbers = ["bool", *integers, "float16", "bfloat16", "float32", "float64"]  # those of TFDS
    features = {dtype: tensor(2, dtype=dtype) for dtype in [*numbers, "complex64", "string"]}
    path = tmp_path / "features.json"
    path.write_text(json.dumps(group(steps={"sequence": {"feature": group(**features), "length": "-1"}})))
    found = read_features(path)
    assert set(found.columns) == set(numbers)
    assert set(found.left_out) == {"complex64", "string"}


def test_describes_the_set(root):
    source = RLDSSource(root)
    assert isinstance(source, EpisodeSource)
    assert (source.name, source.location, source.rate_hz) == ("Datensatz mit Öl", str(root), None)
    assert source.lengths.tolist() == list(LENGTHS)
    assert source.lengths.dtype == np.int64
    assert source.columns == {
        "action": ColumnInfo(size=2),
        "is_first": ColumnInfo(size=1),
        "reward": ColumnInfo(size=1),
        "observation/state": ColumnInfo(size=4),
        "observation/packed": ColumnInfo(size=3),
    }
    assert source.cameras == {"observation/image": CameraInfo(height=4, width=6)}
    assert source.episode(2).instructions == ("task 2",)
    assert source.instruction_at(2, 3) == "task 2"


def test_columns_have_the_values_and_the_declared_type(root):
    source = RLDSSource(root)
    action = source.column(2, "action")
    assert action.dtype == np.float32
    assert action.tolist() == ((np.arange(8) + 20) / 8).reshape(4, 2).tolist()
    action[:] = 0
    assert source.column(2, "action")[0, 0] == 2.5
    assert source.column(0, "is_first").tolist() == [[True], [False], [False]]
    assert source.column(0, "observation/state").dtype == np.int32
    assert source.column(0, "observation/state")[1].tolist() == [-1, 0, 1, 2]
    assert source.column(0, "observation/packed")[2].tolist() == [2 / 3] * 3
    assert source.column(1, "reward").dtype == np.float64


def test_frames_come_in_the_order_asked_for_with_repeats(root):
    source = RLDSSource(root)
    frames = source.images(2, "observation/image", [3, 0, 3])
    assert np.array_equal(frames.numpy(), pixels(2, 4)[[3, 0, 3]].transpose(0, 3, 1, 2))
    assert source.images(2, "observation/image", []).shape == (0, 3, 4, 6)


def test_splits_and_the_folder_above(root):
    source = RLDSSource(root.parent, split="val", name="own")
    assert (source.name, source.lengths.tolist()) == ("own", [3])
    with pytest.raises(DataError, match=r"split must be one of \['train', 'val'\], which .*, got 'test'\."):
        RLDSSource(root, split="test")
    (root.parent / "2.0.0").mkdir()
    (root.parent / "2.0.0" / "features.json").write_text("{}")
    with pytest.raises(DataError, match=r"root must be the folder of one version, got .*\['1\.0\.0', '2\.0\.0'\]"):
        RLDSSource(root.parent)


def test_named_actions_are_columns(write_set):
    """RT-1 and other sets of Open X-Embodiment name the parts of their actions."""
    steps = {
        "action": group(world_vector=tensor(2), terminate_episode=tensor(dtype="int32")),
        "observation": group(natural_language_instruction=tensor(dtype="string")),
    }

    def rename(record):
        record["steps/action/world_vector"] = record.pop("steps/action")
        record["steps/action/terminate_episode"] = record.pop("steps/is_first")
        record["steps/observation/natural_language_instruction"] = record.pop("steps/language_instruction")

    root = write_set(steps=steps, edit=rename, lengths=(4,))
    for path in root.glob("*-val*"):
        path.unlink()
    write_shard(root / "toy-train.tfrecord-00001-of-00002", [])
    (root / "dataset_info.json").unlink()
    source = RLDSSource(root)
    assert source.columns == {"action/world_vector": ColumnInfo(size=2), "action/terminate_episode": ColumnInfo(size=1)}
    assert source.instruction_at(0, 0) == "task 0"
    assert source.column(0, "action/terminate_episode").tolist() == [[1], [0], [0], [0]]


def test_sentences_that_change_within_an_episode(write_set):
    told = ([b"open", b"open", b"", b"close"], "byte")
    source = RLDSSource(write_set(edit=lambda record: record.update({"steps/language_instruction": told})))
    assert source.episode(2).instructions == ("open", "close")
    assert [source.instruction_at(2, frame) for frame in range(4)] == ["open", "open", "", "close"]


def test_a_set_without_language(write_set):
    steps = {key: feature for key, feature in STEPS.items() if key != "language_instruction"}
    source = RLDSSource(write_set(steps=steps))
    assert (source.instruction_at(0, 0), source.episode(0).instructions) == ("", ())


def test_a_sentence_of_the_metadata_and_an_empty_one(write_set):
    """The steps' own sentence comes first; where it is empty, that of the episode counts."""
    metadata = {"episode_metadata": group(language_instruction={"text": {}}, file_path={"text": {}})}

    def tell(record):
        record["steps/language_instruction"] = ([b""] * 4, "byte")
        record["episode_metadata/language_instruction"] = ([b"stack"], "byte")
        record["episode_metadata/file_path"] = ([b"x.npy"], "byte")

    source = RLDSSource(write_set(edit=tell, metadata=metadata))
    assert [source.instruction_at(index, 0) for index in range(3)] == ["task 0", "task 1", "stack"]
    assert source.episode(2).instructions == ("stack",)


def test_empty_language(write_set):
    told = ([b"", b" ", b"", b""], "byte")
    source = RLDSSource(write_set(edit=lambda record: record.update({"steps/language_instruction": told})))
    assert (source.instruction_at(2, 1), source.episode(2).instructions) == ("", ())


def test_survives_pickling_and_leaves_its_cache_behind(root):
    source = RLDSSource(root)
    expected = source.images(0, "observation/image", [0])
    packed = pickle.dumps(source)
    assert len(packed) < 10_000
    assert (pickle.loads(packed).images(0, "observation/image", [0]) == expected).all()


@pytest.mark.parametrize(("budget", "expected"), [(10**6, 3), (1, 5)])
def test_kept_episodes_stay_below_the_budget(root, monkeypatch, budget, expected):
    source = RLDSSource(root)
    reads: list[int] = []
    original = rlds.read_example
    monkeypatch.setattr(rlds, "ARRAYS", SharedCache(budget=budget))
    monkeypatch.setattr(rlds, "read_example", lambda record: (reads.append(record.number), original(record))[1])
    for index in (0, 1, 2, 2, 0, 1):
        source.column(index, "action")
    assert len(reads) == expected


def test_fingerprint_follows_content_and_not_place(write_set):
    fingerprint = RLDSSource(write_set()).fingerprint
    assert RLDSSource(write_set("elsewhere")).fingerprint == fingerprint

    def edit(record):
        record["steps/reward"] = ([0.0] * 4, "float")

    assert RLDSSource(write_set("changed", edit=edit)).fingerprint != fingerprint


def test_read_only_folder(root):
    before = sorted(root.iterdir())
    root.chmod(0o555)
    try:
        RLDSSource(root).column(0, "action")
        assert sorted(root.iterdir()) == before
    finally:
        root.chmod(0o755)


def test_unknown_column_camera_episode_and_frame(root):
    source = RLDSSource(root)
    with pytest.raises(
        DataError, match=r"features\.json has no column 'actions'\. Did you mean 'action'\? There are \["
    ):
        source.column(0, "actions")
    with pytest.raises(DataError, match=r"has no camera 'action'\. There are \['observation/image'\]\."):
        source.images(0, "action", [0])
    with pytest.raises(DataError, match=r"index must be an episode of .* in \[0, 3\), got 3\."):
        source.episode(3)
    with pytest.raises(DataError, match=r"frame must lie in \[0, 4\) in episode 2 of .*, got 4\."):
        source.images(2, "observation/image", [0, 4])
    with pytest.raises(DataError, match=r"got -1\."):
        source.instruction_at(2, -1)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("observation/strange", "its dtype 'complex64' is none of"),
        ("observation/cloud", r"it holds tensors of the shape \(-1, 3\)"),
        ("observation/depth", r"it holds uint16 images of the shape \(4, 6, 1\), not RGB images of 8 bits"),
    ],
)
def test_features_that_are_no_column_say_why(root, key, reason):
    with pytest.raises(DataError, match=rf"features\.json: {key} is no column: {reason}"):
        RLDSSource(root).column(0, key)


def test_missing_and_broken_features(root):
    (root / "features.json").write_text("{")
    with pytest.raises(DataError, match=r"features\.json must be JSON"):
        RLDSSource(root)
    (root / "features.json").write_text(json.dumps(group(image=image(4, 6, 3))))
    with pytest.raises(DataError, match=r"must hold a sequence 'steps' of named features, got \['image'\]"):
        RLDSSource(root)
    (root / "features.json").unlink()
    with pytest.raises(DataError, match=r"features\.json must describe the steps of an RLDS data set, but is missing"):
        RLDSSource(root)


def test_missing_shard(root):
    (root / "toy-train.tfrecord-00000-of-00002").unlink()
    with pytest.raises(DataError, match=r"must hold the shards 0 to 1 of 'train' once each, got none of \[0\]"):
        RLDSSource(root)


def test_shard_that_lost_whole_records(root):
    write_shard(root / "toy-train.tfrecord-00000-of-00002", [make_record(0, 3)])
    with pytest.raises(DataError, match=r"must hold 2 records, as dataset_info\.json says, got 1\."):
        RLDSSource(root)


@pytest.mark.parametrize("cut", [1, 200, 10_000])
def test_truncated_shard(root, cut):
    path = root / "toy-train.tfrecord-00001-of-00002"
    path.write_bytes(path.read_bytes()[: max(5, path.stat().st_size - cut)])
    with pytest.raises(DataError, match=r"00001-of-00002: record 0 at byte 0 must be whole, but the file ends at byte"):
        RLDSSource(root)


def test_damaged_length(root):
    path = root / "toy-train.tfrecord-00001-of-00002"
    path.write_bytes(b"\x1f\x8b" + path.read_bytes()[2:])
    with pytest.raises(DataError, match=r"record 0 at byte 0 must match the checksum of its length\..*decompress it"):
        RLDSSource(root)


def test_damaged_image_is_found_when_its_episode_is_read(root):
    path = root / "toy-train.tfrecord-00001-of-00002"
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 1
    path.write_bytes(data)
    source = RLDSSource(root)
    assert source.column(0, "action").shape == (3, 2)
    with pytest.raises(DataError, match=r"00001-of-00002: record 0 at byte 0 must match its checksum\..*drop the epi"):
        source.column(2, "action")


def test_records_of_something_else(root):
    path = root / "toy-train.tfrecord-00001-of-00002"
    data = b"\x0a\x7f\x08\x01"
    length = len(data).to_bytes(8, "little")
    path.write_bytes(length + TFRecordWriter.masked_crc(length) + data + TFRecordWriter.masked_crc(data))
    with pytest.raises(DataError, match=r"record 0 at byte 0 must be a tf\.train\.Example, got:"):
        RLDSSource(root)


@pytest.mark.parametrize(
    ("edit", "read", "message"),
    [
        (
            lambda record: record.update({"steps/action": ([0.0, 1.0, np.nan, 0.0] * 2, "float")}),
            lambda source: source.column(2, "action"),
            r"steps/action of record 0 \(episode 2\) must be finite, got nan in frame 1, channel 0",
        ),
        (
            lambda record: record.update({"steps/action": ([0.0] * 6, "float")}),
            lambda source: source.column(2, "action"),
            "must hold 2 numbers for each of the 4 steps, got 6 in all",
        ),
        (
            lambda record: record.update({"steps/action": ([b"x"] * 8, "byte")}),
            lambda source: source.column(2, "action"),
            "must hold float32, got",
        ),
        (
            lambda record: record.pop("steps/observation/state"),
            lambda source: source.column(2, "observation/state"),
            "steps/observation/state of record 0 .* must be there, but the record lacks it",
        ),
        (
            lambda record: record.update({"steps/observation/packed": ([b"x"] * 4, "byte")}),
            lambda source: source.column(2, "observation/packed"),
            "must hold zlib of float64, got",
        ),
        (
            lambda record: record.update({"steps/observation/image": ([b"\xff\xd8\xff"] * 4, "byte")}),
            lambda source: source.images(2, "observation/image", [1]),
            r"steps/observation/image of record 0 \(episode 2\), step 1 must be a whole image",
        ),
        (
            lambda record: record.update({"steps/observation/image": ([png(np.zeros((4, 6, 3), np.uint8))], "byte")}),
            lambda source: source.images(2, "observation/image", [1]),
            "must hold an image for each of the 4 steps, got 1",
        ),
        (
            lambda record: record.update({"steps/language_instruction": ([b"a", b"b"], "byte")}),
            lambda source: source.instruction_at(2, 1),
            r"steps/language_instruction of record 0 .* must hold a sentence for each of the 4 steps, got 2",
        ),
    ],
    ids=["nan", "ragged", "type", "missing", "packed", "image", "images", "sentences"],
)
def test_broken_episode(write_set, edit, read, message):
    source = RLDSSource(write_set(edit=edit))
    with pytest.raises(DataError, match=message):
        read(source)
    assert source.column(0, "action").shape == (3, 2)


def test_empty_episode_is_listed_and_cannot_be_read(write_set):
    def empty(record):
        for key, (_, kind) in record.items():
            record[key] = ([], kind)

    source = RLDSSource(write_set(edit=empty))
    assert source.lengths.tolist() == [3, 1, 0]
    with pytest.raises(DataError, match="for each of the 0 steps"):
        source.column(2, "action")
    with pytest.raises(DataError, match=r"frame must lie in \[0, 0\)"):
        source.images(2, "observation/image", [0])


def test_features_of_another_set(write_set):
    with pytest.raises(DataError, match=r"record 0 must hold 1 values of steps/gripper per step, got none"):
        RLDSSource(write_set(steps={"gripper": tensor()}))


def test_works_beside_tensorflow(tmp_path):
    """TensorFlow gives protobuf the same message names, which then refuses those of the `tfrecord` library."""
    code = """
import sys, types
import vla_kit.data
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
pool = descriptor_pool.Default()
file = descriptor_pb2.FileDescriptorProto.FromString(bytes.fromhex(sys.argv[2]))
file.name = "tensorflow/core/example/example.proto"
pool.Add(file)
for part, name in (("example_pb2", "Example"), ("feature_pb2", "Feature")):
    module = types.ModuleType(f"tensorflow.core.example.{part}")
    setattr(module, name, message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.{name}")))
    sys.modules[module.__name__] = module
for package in ("tensorflow", "tensorflow.core", "tensorflow.core.example"):
    sys.modules[package] = types.ModuleType(package)
from vla_kit.data.readers._shared_cache import SharedCache
from vla_kit.data.readers.rlds import RLDSSource
print(RLDSSource(sys.argv[1]).column(0, "action").tolist())
"""
    tree = group(steps={"sequence": {"feature": group(action=tensor(2))}})
    (tmp_path / "features.json").write_text(json.dumps(tree))
    write_shard(tmp_path / "toy-train.tfrecord", [{"steps/action": ([0.5, 1.0], "float")}])
    command = [sys.executable, "-c", code, str(tmp_path), DESCRIPTOR.serialized_pb.hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "[[0.5, 1.0]]\n", done.stderr
