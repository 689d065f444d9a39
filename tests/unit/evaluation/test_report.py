import base64
import re

import numpy as np

from vla_kit.data.video_pyav import PyAVDecoder
from vla_kit.evaluation import EpisodeResult, EvaluationTable, SuccessCount, TaskRow
from vla_kit.evaluation.report import write_report
from vla_kit.metrics import rate_difference


def test_one_file_holds_everything(tmp_path):
    table = EvaluationTable(
        tasks=[
            TaskRow(
                name="metaworld/faucet-open",
                embodiment="metaworld_sawyer",
                policy=SuccessCount(7, 10),
                expert=SuccessCount(10, 10),
                random=SuccessCount(0, 10),
                swapped=SuccessCount(1, 10, errors=2),
                shifts={"light": SuccessCount(3, 10), "pose": SuccessCount(0, 0, errors=1)},
            ),
            TaskRow(name="metaworld/reach", embodiment="metaworld_sawyer", policy=SuccessCount(20, 30)),
            TaskRow(name="broken", embodiment="arm", policy=SuccessCount(0, 0, errors=4)),
        ],
        seconds={"training": 120.0, "evaluation": 30.0},
    )
    pictures = np.random.default_rng(0).integers(0, 256, (5, 33, 65, 3), dtype=np.uint8)
    shown = EpisodeResult(
        task="metaworld/faucet-open",
        embodiment="metaworld_sawyer",
        seed=1_000_000,
        instruction="turn <it>",
        success=True,
        steps=4,
        pictures=pictures,
    )
    path = tmp_path / "report.html"
    write_report(
        path,
        table,
        title="Demo & more",
        notes=["trained on 2 cores"],
        curves={"Loss": {"train": [(0, 1.0), (10, 0.1)]}},
        episodes=[
            shown,
            EpisodeResult(task="t", embodiment="e", seed=1, instruction="", success=False, steps=1),
            EpisodeResult(task="t", embodiment="e", seed=2, instruction="", success=False, steps=0, error="it <hung>"),
        ],
    )
    page = path.read_text(encoding="utf-8")
    for text in (
        "70% (40-89), 7/10",
        "100%, 10/10",
        "0%, 0/10",
        "10%, 1/10",
        "<svg",
        "2.0 min",
        "2.5 min",
        "Demo &amp; more",
    ):
        assert text in page
    assert "turn &lt;it&gt;" in page
    assert "<td>3</td>" in page  # errors of all trials of the first task
    assert "none ran, 4 errors" in page
    assert "<th>All 2 tasks</th><th>metaworld_sawyer</th><th>68% (52-80), 27/40</th>" in page
    assert "All 1 tasks" not in page
    assert "<th>light</th><th>pose</th>" in page
    assert "30% (11-60), 3/10" in page
    change = rate_difference(3, 10, 7, 10)
    assert f"-40 ({100 * change.low:+.0f} to {100 * change.high:+.0f})" in page
    assert "t, seed 2</td><td>it &lt;hung&gt;</td>" in page
    assert "nan" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    videos = re.findall(r"data:video/mp4;base64,([A-Za-z0-9+/=]+)", page)
    assert len(videos) == 1
    (tmp_path / "v.mp4").write_bytes(base64.b64decode(videos[0]))
    decoded = PyAVDecoder(tmp_path / "v.mp4")
    assert len(decoded) == 5
    assert decoded.frames([0]).shape == (1, 3, 32, 64)
