import json

import datasets
import pandas as pd
import pyarrow.parquet as pq
import pytest

from vla_kit.data.lerobot_layout import INDEX_FEATURES, check_features, data_schema, read_table, tasks_table
from vla_kit.errors import DataError, SettingError

ACTION = {"action": {"dtype": "float32", "shape": (2,)}}


def test_tasks_open_in_pandas_as_lerobot_expects(tmp_path):
    pq.write_table(tasks_table(["open the door", "schließe die Tür"]), tmp_path / "tasks.parquet")
    tasks = pd.read_parquet(tmp_path / "tasks.parquet")
    assert tasks.iloc[1].name == "schließe die Tür"
    assert int(tasks.loc["open the door"].task_index) == 0


def test_schema_is_the_one_hugging_face_datasets_would_write():
    features = {**check_features({**ACTION, "cam": {"dtype": "image", "shape": (4, 4, 3)}}), **INDEX_FEATURES}
    schema = data_schema(features)
    theirs = datasets.Features.from_arrow_schema(schema)
    assert theirs["cam"] == datasets.Image()
    assert theirs["action"].length == 2
    assert theirs["index"] == datasets.Value("int64")
    assert theirs.arrow_schema.types == schema.types
    assert json.loads(theirs.arrow_schema.metadata[b"huggingface"]) == json.loads(schema.metadata[b"huggingface"])


@pytest.mark.parametrize(
    ("features", "text"),
    [
        ({"state": {"dtype": "float32", "shape": (2,)}}, r"features must hold 'action', got \['state'\]"),
        ({**ACTION, "index": {"dtype": "int64", "shape": (1,)}}, "features must not hold 'index'"),
        ({**ACTION, "a/b": {"dtype": "int64", "shape": (1,)}}, "features must have keys without '/', got 'a/b'"),
        ({**ACTION, "x": {"dtype": "string", "shape": (1,)}}, r"features\['x'\] must have a dtype of .* got 'string'"),
        ({**ACTION, "x": {"dtype": "float32", "shape": (2, 2)}}, r"features\['x'\] must have the shape \(size,\)"),
        (
            {**ACTION, "x": {"dtype": "image", "shape": (3, 8, 8)}},
            r"must have the shape \(height, width, 3\), got \(3, 8, 8\)",
        ),
        ({**ACTION, "x": {"dtype": "video", "shape": (7, 8, 3)}}, "must have an even height and width"),
    ],
)
def test_wrong_features(features, text):
    with pytest.raises(SettingError, match=text):
        check_features(features)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(DataError, match=r"gone.parquet must exist, but is missing"):
        read_table(tmp_path / "gone.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"broken.parquet must be a readable parquet file"):
        read_table(tmp_path / "broken.parquet")
