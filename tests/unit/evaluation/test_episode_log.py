import json

import numpy as np
import pytest

from vla_kit.data.video_pyav import PyAVDecoder
from vla_kit.errors import DataError, SettingError
from vla_kit.evaluation import EpisodeLog, EpisodeResult

SETTINGS = {"checkpoint": "abc", "replan_every": 8, "envs": ["a"]}


def result(seed, **changes):
    known = {"task": "toy/line", "embodiment": "line", "instruction": "go", "success": seed % 2 == 0, "steps": 3}
    return EpisodeResult(seed=seed, **{**known, **changes})


def test_what_is_written_comes_back(tmp_path):
    log = EpisodeLog(tmp_path / "new", SETTINGS)
    ramp = np.repeat(np.arange(0, 200, 50, dtype=np.uint8), 34 * 64 * 3).reshape(4, 34, 64, 3)
    log.append(result(1, pictures=ramp), trial="policy", seconds=1.5)
    log.append(result(2), trial="policy", seconds=0.5)
    log.append(result(2, success=False), trial="shift:light", seconds=0.25)
    for found in (log, EpisodeLog(tmp_path / "new", SETTINGS)):
        back = found.finished("toy/line", "policy")
        assert back == {1: result(1), 2: result(2)}
        assert back[2].pictures is None
        assert back[1].pictures.shape == (4, 34, 64, 3)
        assert np.abs(back[1].pictures.astype(int) - ramp).mean() < 5  # a video is not exact
        assert found.finished("toy/line", "shift:light") == {2: result(2, success=False)}
        assert found.finished("toy/line", "expert") == found.finished("other", "policy") == {}
        assert found.seconds("policy") == 2.0
        assert found.seconds("") == 2.25
    assert len(PyAVDecoder(tmp_path / "new" / "videos" / "toy" / "line" / "policy-1.mp4")) == 4
    assert json.loads((tmp_path / "new" / "evaluation.json").read_text()) == SETTINGS


def test_errors_are_kept_and_do_not_count_as_finished(tmp_path):
    log = EpisodeLog(tmp_path, SETTINGS)
    log.append(result(1, error="it hung"), trial="policy", seconds=60.0)
    assert log.finished("toy/line", "policy") == {}
    assert json.loads((tmp_path / "episodes.jsonl").read_text())["error"] == "it hung"
    log.append(result(1), trial="policy", seconds=1.0)
    assert EpisodeLog(tmp_path, SETTINGS).finished("toy/line", "policy") == {1: result(1)}


def test_a_line_that_was_cut_is_dropped_and_the_next_one_is_whole(tmp_path):
    EpisodeLog(tmp_path, SETTINGS).append(result(1), trial="policy", seconds=1.0)
    with (tmp_path / "episodes.jsonl").open("a") as file:
        file.write('{"task": "toy/li')
    log = EpisodeLog(tmp_path, SETTINGS)
    assert list(log.finished("toy/line", "policy")) == [1]
    log.append(result(2), trial="policy", seconds=1.0)
    assert list(EpisodeLog(tmp_path, SETTINGS).finished("toy/line", "policy")) == [1, 2]


def test_a_broken_line_is_named(tmp_path):
    log = EpisodeLog(tmp_path, SETTINGS)
    log.append(result(1), trial="policy", seconds=1.0)
    with (tmp_path / "episodes.jsonl").open("a") as file:
        file.write("oops\n")
    with pytest.raises(DataError, match=r"line 2 of .* must be JSON, got b'oops'"):
        EpisodeLog(tmp_path, SETTINGS)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"checkpoint": "xyz"}, "where checkpoint was 'abc' and is 'xyz' now. Choose another folder, or remove"),
        ({"envs": ["a", "b"]}, r"where envs was \['a'\] and is \['a', 'b'\] now"),
        ({"temperature": 0.3}, "where temperature was None and is 0.3 now"),
    ],
)
def test_episodes_of_other_settings_are_not_mixed(changed, text, tmp_path):
    EpisodeLog(tmp_path, SETTINGS).append(result(1), trial="policy", seconds=1.0)
    with pytest.raises(SettingError, match=text):
        EpisodeLog(tmp_path, SETTINGS | changed)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == SETTINGS


def test_a_folder_without_an_episode_may_change_its_settings(tmp_path):
    EpisodeLog(tmp_path, SETTINGS)
    EpisodeLog(tmp_path, {"checkpoint": "xyz"})
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {"checkpoint": "xyz"}


def test_episodes_without_settings_are_not_trusted(tmp_path):
    EpisodeLog(tmp_path, SETTINGS).append(result(1), trial="policy", seconds=1.0)
    (tmp_path / "evaluation.json").unlink()
    with pytest.raises(SettingError, match="where checkpoint was None"):
        EpisodeLog(tmp_path, SETTINGS)
