import msgpack
import numpy as np
import pytest

from vla_kit.errors import DataError
from vla_kit.serving.wire import pack_message, unpack_message


def array(**entries):
    """The map that stands for an array, with some entries replaced."""
    whole = {b"__ndarray__": True, b"data": b"\x01\x02", b"dtype": "|u1", b"shape": [2]}
    return {"a": whole | {name.encode(): value for name, value in entries.items()}}


def test_an_array_is_four_entries_with_names_in_bytes():
    """Computed by hand from the msgpack specification."""
    expected = b"\x81\xa1a\x84"
    expected += b"\xc4\x0b__ndarray__\xc3" + b"\xc4\x04data\xc4\x02\x01\x02"
    expected += b"\xc4\x05dtype\xa3|u1" + b"\xc4\x05shape\x91\x02"
    assert pack_message({"a": np.array([1, 2], dtype=np.uint8)}) == expected


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "u4", "i8", "f2", "<f4", ">f4", "f8"])
def test_numbers_come_back_as_they_were(dtype):
    sent = {"array": np.arange(6).reshape(2, 3).astype(dtype), "scalar": np.ones((), dtype=dtype)[()]}
    read = unpack_message(pack_message(sent))
    assert read["array"].dtype == np.dtype(dtype)
    assert np.array_equal(read["array"], sent["array"])
    assert read["scalar"] == sent["scalar"]
    assert np.asarray(read["scalar"]).dtype == np.dtype(dtype).newbyteorder("=")  # f8 is a float for msgpack


def test_plain_values_and_empty_arrays_come_back_as_they_were():
    sent = {"text": "größe", "bytes": b"\xff", "list": [1, 2.5, None, True], "map": {"deep": -1}}
    read = unpack_message(pack_message(sent | {"empty": np.zeros((0, 3), dtype=np.float32)}))
    assert read.pop("empty").shape == (0, 3)
    assert read == sent


def test_an_array_may_be_written_to():
    read = unpack_message(pack_message({"a": np.zeros(3)}))["a"]
    read[:] = 1
    assert read.sum() == 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "one msgpack map, got 0 bytes"),
        (b"\xc1", "one msgpack map"),
        (b"GET / HTTP/1.1", "one msgpack map"),
        (pack_message({"a": np.zeros(9)})[:-5], "one msgpack map"),
        (pack_message({"a": 1}) * 2, "one msgpack map"),
        (msgpack.packb([1, 2]), "must be a map, got list"),
        (b"\x81\xa1a\xdd\xff\xff\xff\xff", "one msgpack map"),  # says that 4 billion entries follow
        (b"\x81\xa1a\xc7\x01\x05x", "one msgpack map"),  # an extension type, such as one for pickles
        (b"\x81\xa2\xff\xfe\x01", "one msgpack map"),  # a name that is no UTF-8
        (b"\x81\x80\x01", "one msgpack map"),  # a map as the name of an entry
        (b"\x91" * 100_000, "one msgpack map"),
    ],
)
def test_garbage_is_refused(data, reason):
    with pytest.raises(DataError, match=reason):
        unpack_message(data)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"dtype": "|O"}, r"dtype of an array must be that of bool, int or float numbers, got '\|O'"),
        ({"dtype": "u1,u1"}, "dtype of an array"),
        ({"dtype": "|V2"}, "dtype of an array"),
        ({"dtype": "<U1"}, "dtype of an array"),
        ({"dtype": 3}, "dtype of an array"),
        ({"shape": [3]}, r"shape \(3,\) and dtype uint8 must hold 3 bytes, got 2"),
        ({"shape": [2**62, 8]}, "must hold"),
        ({"shape": [-1, -2]}, r"shape of an array must be a list of at most 8 sizes, got \[-1, -2\]"),
        ({"shape": [True, 2]}, "shape of an array"),
        ({"shape": [1] * 9}, "shape of an array"),
        ({"shape": None}, "shape of an array"),
        ({"data": "ab"}, "must hold 2 bytes, got <class 'str'>"),
        ({"data": None}, "must hold 2 bytes"),
    ],
)
def test_an_array_that_lies_is_refused(entries, reason):
    assert unpack_message(msgpack.packb(array()))["a"].tolist() == [1, 2]
    with pytest.raises(DataError, match=reason):
        unpack_message(msgpack.packb(array(**entries)))


def test_a_short_message_cannot_become_a_large_one():
    """16 MB of empty maps would be a gigabyte of Python objects."""
    with pytest.raises(DataError, match="one msgpack map"):
        unpack_message(b"\x81\xa1a\xdd" + (2_000).to_bytes(4, "big") + b"\x80" * 2_000)
    rows = [[{}] * 1_000] * 1_000
    with pytest.raises(DataError, match="at most 1024 lists and maps"):
        unpack_message(msgpack.packb({"a": rows}))


@pytest.mark.parametrize("value", [np.array([object()]), np.array(["a"]), np.array([1j]), np.datetime64("2020-01-01")])
def test_only_numbers_are_written(value):
    with pytest.raises(DataError, match="arrays must hold numbers"):
        pack_message({"a": value})
    with pytest.raises(TypeError, match="got object"):
        pack_message({"a": object()})
