import os
import xml.etree.ElementTree as ElementTree

from vla_kit.evaluation import draw_curves, read_curve


def write(path, text, *, age):
    path.parent.mkdir(parents=True)
    path.write_text(text)
    os.utime(path, (1_000 - age, 1_000 - age))


def test_reads_all_starts_of_a_run_and_the_later_one_wins(tmp_path):
    write(
        tmp_path / "logs/version_0/metrics.csv", "step,train/loss,val/loss\n0,3.0,\n10,2.0,\n10,,1.5\n20,9.0,\n", age=9
    )
    write(tmp_path / "logs/version_1/metrics.csv", "step,train/loss\n20,1.0\n30,0.5\n", age=1)
    assert read_curve(tmp_path, "train/loss") == [(0, 3.0), (10, 2.0), (20, 1.0), (30, 0.5)]
    assert read_curve(tmp_path, "val/loss") == [(10, 1.5)]
    assert read_curve(tmp_path, "nothing") == []


def test_draws_valid_svg_within_its_frame():
    svg = ElementTree.fromstring(
        draw_curves({"train <a>": [(0, 2.0), (5, float("nan")), (10, 0.2)], "val": [(10, 1.0)]}, title="loss & more")
    )
    lines = [node for node in svg.iter() if node.tag.endswith("polyline")]
    assert len(lines) == 2
    points = [tuple(map(float, point.split(","))) for point in lines[0].attrib["points"].split()]
    assert len(points) == 2
    assert all(0 <= x <= 640 and 0 <= y <= 260 for x, y in points)
    assert points[0][1] < points[1][1]  # larger values stand higher, and y points down


def test_draws_constants_negatives_and_nothing():
    for curves in ({"a": [(0, 1.0), (1, 1.0)]}, {"a": [(0, -1.0), (1, 0.0)]}, {"a": []}, {}):
        ElementTree.fromstring(draw_curves(curves, title="x"))
    assert "nothing was logged" in draw_curves({}, title="x")


def labels(curve):
    svg = ElementTree.fromstring(draw_curves({"": curve}, title=""))
    texts = [node for node in svg.iter() if node.tag.endswith("text") and node.text]
    return (
        [node.text for node in texts if node.get("text-anchor") == "end"],
        [node.text for node in texts if node.get("text-anchor") == "middle"],
    )


def test_axes_carry_round_numbers():
    assert labels([(0, 0.4), (2299, 7e-5)])[0] == ["0.0001", "0.001", "0.01", "0.1"]
    assert labels([(0, 0.6), (99, 0.04)])[0] == ["0.05", "0.1", "0.2", "0.5"]
    assert labels([(0, 0.27), (99, 0.17)])[0] == ["0.175", "0.2", "0.225", "0.25", "0.275"]
    assert labels([(0, -1.0), (10, 1.0)]) == (["-1", "-0.5", "0", "0.5", "1"], ["0", "2", "4", "6", "8", "10"])
    assert labels([(0, 1.0), (2299, 2.0)])[1] == ["0", "500", "1000", "1500", "2000"]
