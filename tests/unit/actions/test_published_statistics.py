"""Statistics that others published and data that others recorded."""

import json
import struct

import numpy as np
import pytest
import torch

from vla_kit.actions import ActionSpace, ChannelGroup, MaskedActions, QuantileNormalizer, QuantileStats
from vla_kit.embodiment import PRESETS


@pytest.fixture(scope="module")
def gr1_frames(shared_data):
    parquet = pytest.importorskip("pyarrow.parquet")
    files = sorted((shared_data / "groot_gr1_pnp" / "data").rglob("*.parquet"))
    columns = [parquet.read_table(file, columns=["action"])["action"].to_pylist() for file in files]
    return np.concatenate([np.array(column) for column in columns])


@pytest.fixture(scope="module")
def gr1_published(shared_data):
    entries = json.loads((shared_data / "groot_gr1_pnp" / "meta" / "stats.json").read_text())
    return QuantileStats.from_dict(entries["action"])


def test_gr1_frames_give_the_published_statistics(gr1_frames, gr1_published):
    ours = QuantileStats.from_frames(gr1_frames)
    assert ours.count == 2096
    for name in ("q01", "q99", "minimum", "maximum"):
        torch.testing.assert_close(getattr(ours, name), getattr(gr1_published, name), atol=1e-6, rtol=0)
    for name in ("mean", "std"):  # published from sums in float32
        torch.testing.assert_close(getattr(ours, name), getattr(gr1_published, name), atol=1e-5, rtol=0)


def test_gr1_has_25_constant_channels_that_survive(gr1_frames, gr1_published):
    constant = gr1_published.q01 == gr1_published.q99
    assert constant.sum() == 25
    joints = ActionSpace([ChannelGroup("motor", kind="joint", reference="absolute", unit="rad", count=44)])
    normalizer = QuantileNormalizer({"gr1": gr1_published}, spaces={"gr1": joints})
    frames = torch.tensor(gr1_frames, dtype=torch.float32)
    out = normalizer.normalize(MaskedActions.pad([frames]), ["gr1"])
    native = normalizer.denormalize(out, ["gr1"]).cut()[0]
    assert out.values.isfinite().all()
    assert (out.cut()[0][:, constant] == 0).all()
    assert torch.equal(native[:, constant], gr1_published.q01[constant].expand(len(frames), -1))
    clipped = torch.minimum(torch.maximum(frames, gr1_published.q01), gr1_published.q99)
    torch.testing.assert_close(native, clipped, atol=1e-6, rtol=1e-6)


def fields(message):
    """Number and content of the length-delimited fields of a protobuf message."""
    place = 0

    def varint():
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(message):
        key = varint()
        assert key & 7 == 2
        size = varint()
        yield key >> 3, message[place : place + size]
        place += size


def read_bridge_actions(path):
    """The `steps/action` floats of every tf.train.Example of a TFRecord file."""
    data, place, episodes = path.read_bytes(), 0, []
    while place < len(data):
        (size,) = struct.unpack_from("<Q", data, place)
        (_, features), *_ = fields(data[place + 12 : place + 12 + size])
        place += 16 + size
        entries = (dict(fields(entry)) for _, entry in fields(features))
        feature = next(entry[2] for entry in entries if entry[1] == b"steps/action")
        (kind, values), *_ = fields(feature)
        assert kind == 2
        (_, packed), *_ = fields(values)
        episodes.append(np.frombuffer(packed, "<f4").reshape(-1, 7))
    return torch.tensor(np.stack(episodes))


def test_bridge_gripper_passes_through_and_outliers_are_clipped(shared_data):
    published = json.loads((shared_data / "stats" / "oxe_dataset_statistics_vgmact.json").read_text())
    entry, widowx = published["bridge_orig"]["action"], PRESETS["widowx"]
    assert widowx.action_space.normalized.tolist() == entry["mask"]
    stats = QuantileStats.from_dict(entry)
    normalizer = QuantileNormalizer({"widowx": stats}, spaces={"widowx": widowx.action_space})
    (file,) = (shared_data / "bridge_rlds_debug").glob("*.tfrecord*")
    episodes = read_bridge_actions(file)
    assert episodes.shape == (25, 10, 7)
    out = normalizer.normalize(MaskedActions.pad(list(episodes)), ["widowx"] * 25)
    arms, grippers = out.values[..., :6], out.values[..., 6]
    assert torch.equal(grippers, episodes[..., 6])
    assert arms.abs().max() == 1
    outside = (episodes[..., :6] < stats.q01[:6]) | (episodes[..., :6] > stats.q99[:6])
    assert 0.012 < outside.float().mean() < 0.014
    assert (arms[outside].abs() == 1).all()


def test_every_published_entry_loads(shared_data):
    oxe = json.loads((shared_data / "stats" / "oxe_dataset_statistics_vgmact.json").read_text())
    assert len(oxe) == 26
    for entry in oxe.values():
        stats = QuantileStats.from_dict(entry["action"])
        assert stats.minimum is not None
        assert QuantileStats.from_dict(stats.to_dict()).fingerprint == stats.fingerprint
    libero = json.loads((shared_data / "stats" / "libero_openpi_norm_stats.json").read_text())["norm_stats"]
    stats = QuantileStats.from_dict(libero["actions"])
    assert stats.size == 7
    assert stats.minimum is None
    assert QuantileStats.from_dict(libero["state"]).size == 8
