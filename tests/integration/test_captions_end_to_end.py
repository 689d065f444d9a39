"""GR-1 episodes are captioned, reviewed and read back by training: the run that docs/results/captions.json records."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark(monkeypatch):
    pytest.importorskip("openai", reason="openai comes with vla-kit[captions]")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("captions")


def test_nothing_is_lost_between_the_endpoint_and_training(benchmark, shared_data, tmp_path):
    found = benchmark.measure(shared_data / "groot_gr1_pnp", tmp_path / "captions")
    assert (found["episodes"], found["faults"], found["repairs"]) == (5, 6, 3)
    assert found["retries"] == 3  # busy, broken, dropped
    assert found["requests"] == 2 * 5 + 3
    assert (found["accepted"], found["corrected"], found["rejected"]) == (3, 1, 1)
    assert found["told_neither"] == 0
    assert found["caption_share"] == pytest.approx(1 / 3, abs=0.05)
    reviews = json.loads((tmp_path / "captions" / "reviews.json").read_text(encoding="utf-8"))["entries"]
    assert reviews[3]["caption"]["steps"][0]["text"] == "Reach to the salt with the right hand."
    recorded = json.loads((ROOT / "docs" / "results" / "captions.json").read_text(encoding="utf-8"))["captions"]
    assert {key: recorded[key] for key in found} == found
