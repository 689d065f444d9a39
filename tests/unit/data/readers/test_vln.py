"""R2R, RxR, R2R-CE, RxR-CE and connectivity files, made after the published layouts: the real ones may not ship."""

import gzip
import json
import math

import numpy as np
import pytest
import torch

from vla_kit.actions import discrete_to_waypoints, integrate_waypoints
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.readers.matterport import read_connectivity
from vla_kit.data.readers.open import open_source
from vla_kit.data.readers.vln import read_vln
from vla_kit.data.readers.vln_ce import read_vln_ce, upright_yaw
from vla_kit.errors import DataError

HALF = math.sqrt(0.5)


def write(path, content):
    lines = isinstance(content, list) and ".jsonl" in path.name
    text = "\n".join(map(json.dumps, content)) + "\n" if lines else json.dumps(content)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def r2r(**changes):
    usual = {
        "distance": 11.65,
        "scan": "VLzqgDo317F",
        "path_id": 4332,
        "path": ["af34", "9de1", "c9f8"],
        "heading": 3.751,
        "instructions": ["Walk down one flight of stairs.", "Exit  the room\n", "Go left."],
    }
    return usual | changes


def rxr(**changes):
    usual = {
        "path_id": 0,
        "split": "train",
        "scan": "SN83YJsR3w2",
        "heading": 0.5,
        "path": ["a", "b"],
        "instruction_id": 7,
        "annotator_id": 1,
        "language": "en-IN",
        "instruction": "You are facing a wall.",
        "timed_instruction": [],
        "edit_distance": 0.1,
    }
    return usual | changes


def r2r_ce(**changes):
    usual = {
        "episode_id": 1,
        "trajectory_id": 4,
        "scene_id": "mp3d/7y3sRwLe3Va/7y3sRwLe3Va.glb",
        "start_position": [-16.3, 0.15, 0.7],
        "start_rotation": [0.0, HALF, 0.0, HALF],
        "info": {"geodesic_distance": 6.4},
        "goals": [{"position": [-12.3, 0.15, 0.6], "radius": 3.0}],
        "instruction": {"instruction_text": "Walk to the other end of the lobby. ", "instruction_tokens": [2384, 2300]},
        "reference_path": [[-16.3, 0.15, 0.7], [-14.0, 0.15, 0.7], [-12.3, 0.15, 0.6]],
    }
    return usual | changes


def rxr_ce(**changes):
    usual = {
        "episode_id": "1",
        "trajectory_id": "0",
        "scene_id": "mp3d/SN83YJsR3w2/SN83YJsR3w2.glb",
        "info": {"role": "guide"},
        "instruction": {
            "instruction_id": "0",
            "instruction_text": "You will start by standing in front of a glass door",
            "language": "en-US",
            "annotator_id": "20",
            "edit_distance": 0.07,
            "timed_instruction": [{"end_time": 1.4, "word": "You", "start_time": 0.7}],
        },
        "start_position": [0.0, 1.0, 2.0],
        "start_rotation": [0.0, 0.0, 0.0, 1.0],
        "goals": [{"position": [3.0, 1.0, 2.0]}],
        "reference_path": [[0.0, 1.0, 2.0], [3.0, 1.0, 2.0]],
    }
    return usual | changes


def ce(*episodes):
    return {"episodes": list(episodes), "instruction_vocab": {"word_list": ["<pad>"]}}


def pose(x, y, z):
    return [1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z, 0, 0, 0, 1]


def viewpoint(name, x, y, free, **changes):
    usual = {"image_id": name, "pose": pose(x, y, 1.5), "included": True, "height": 1.5}
    return usual | {"visible": free, "unobstructed": free} | changes


def test_r2r_gives_a_route_per_instruction(tmp_path):
    routes = read_vln(write(tmp_path / "R2R_train.json", [r2r(), r2r(path_id=5)]))
    assert [one.route_id for one in routes] == ["4332_0", "4332_1", "4332_2", "5_0", "5_1", "5_2"]
    assert routes[1].instruction == "Exit the room"
    assert routes[0].viewpoints == ("af34", "9de1", "c9f8")
    assert (routes[0].scan, routes[0].language) == ("VLzqgDo317F", "en")
    assert routes[0].start_theta_rad == pytest.approx(math.pi / 2 - 3.751)


def test_headings_turn_the_other_way_than_ours(tmp_path):
    north, east = read_vln(
        write(tmp_path / "a.json", [r2r(heading=0.0, instructions=["a"]), r2r(heading=math.pi / 2, instructions=["b"])])
    )
    assert north.start_theta_rad == pytest.approx(math.pi / 2)
    assert east.start_theta_rad == pytest.approx(0.0)


def test_rxr_is_read_line_by_line_and_by_language(tmp_path):
    lines = [rxr(), rxr(instruction_id=8, language="hi-IN"), rxr(instruction_id=9, language="en-US")]
    path = write(tmp_path / "rxr_train_guide.jsonl.gz", lines)
    assert [one.route_id for one in read_vln(path)] == ["7", "8", "9"]
    assert [one.route_id for one in read_vln(path, language="en")] == ["7", "9"]
    assert [one.route_id for one in read_vln(path, language="en-US")] == ["9"]
    with pytest.raises(
        DataError, match=r"must hold a route in 'te', got none of 3 episodes, whose languages are \['en-"
    ):
        read_vln(path, language="te")


def test_empty_paths_and_words_are_left_out_with_a_warning(tmp_path):
    path = write(tmp_path / "a.json", [r2r(), r2r(path_id=9, path=[]), r2r(path_id=8, instructions=["go", " "])])
    with pytest.warns(UserWarning, match=r"left out 4 episodes without a path or without words: \['9_0', "):
        routes = read_vln(path)
    assert [one.route_id for one in routes] == ["4332_0", "4332_1", "4332_2", "8_0"]


def test_the_graph_has_the_shortest_way(tmp_path):
    rows = [
        viewpoint("a", 0, 0, [False, True, False, False]),
        viewpoint("b", 3, 4, [True, False, True, False]),
        viewpoint("c", 3, 6, [False, True, False, False]),
        viewpoint("d", 9, 9, [False, False, False, False]),
    ]
    graph = read_connectivity(write(tmp_path / "VLzqgDo317F_connectivity.json", rows))
    assert graph.scan == "VLzqgDo317F"
    assert graph.shortest_path("a", "c") == ["a", "b", "c"]
    assert graph.distance("a", "c") == 7.0
    assert graph.positions(["a", "b"]).tolist() == [[0, 0, 1.5], [3, 4, 1.5]]
    assert graph.distance("a", "d") == math.inf
    with pytest.raises(DataError, match="goal must be reached from 'a' in VLzqgDo317F, got 'd'"):
        graph.shortest_path("a", "d")
    with pytest.raises(DataError, match="viewpoint must be one of VLzqgDo317F, got 'e'"):
        graph.positions(["e"])
    with pytest.raises(DataError, match="path must hold at least one viewpoint"):
        graph.positions([])


def test_viewpoints_without_position_are_no_part_of_the_graph(tmp_path):
    free = [True, True, True, True, True]
    rows = [
        viewpoint("a", 0, 0, free),
        viewpoint("lost", 1, 0, free, pose=[]),
        viewpoint("broken", 1, 0, free, pose=[None] * 16),
        viewpoint("out", 1, 0, free, included=False),
        viewpoint("b", 2, 0, [False, True, True, True, False]),
    ]
    graph = read_connectivity(write(tmp_path / "s_connectivity.json", rows))
    assert graph.viewpoints == ("a", "b")
    assert graph.without_position == ("lost", "broken")
    assert graph.distance("b", "a") == 2.0  # an edge that one end names holds for both
    with pytest.raises(DataError, match="viewpoint 'lost' of s must have a position, got none"):
        graph.distance("a", "lost")
    with pytest.raises(DataError, match="got 'out'"):
        graph.distance("a", "out")


def test_r2r_ce_with_its_ground_truth(tmp_path):
    actions = [2, 2, 2, 1, 1, 0]
    truth = {"1": {"actions": actions, "locations": [[-16.3, 0.15, 0.7]] * 6, "forward_steps": 2}}
    (route,) = read_vln_ce(
        write(tmp_path / "train.json.gz", ce(r2r_ce())), ground_truth=write(tmp_path / "train_gt.json.gz", truth)
    )
    assert (route.episode_id, route.trajectory_id, route.scan) == ("1", "4", "7y3sRwLe3Va")
    assert route.instruction == "Walk to the other end of the lobby."
    assert (route.language, route.goal_radius_m, route.geodesic_m) == ("en", 3.0, 6.4)
    assert route.goal.tolist() == [-12.3, 0.15, 0.6]
    assert route.reference_path.shape == (3, 3)
    assert route.actions == tuple(actions)
    assert route.locations.shape == (6, 3)


def test_poses_in_the_plane_follow_habitats_axes(tmp_path):
    """A quarter turn to the left from -z looks along -x; two steps forward end half a metre further that way."""
    (route,) = read_vln_ce(write(tmp_path / "a.json", ce(r2r_ce())))
    x, y, theta = route.start_pose
    assert (x, y) == (-16.3, -0.7)
    assert theta == pytest.approx(math.pi)
    reached = integrate_waypoints(discrete_to_waypoints([1, 1]), torch.tensor([x, y, theta], dtype=torch.float64))
    np.testing.assert_allclose(reached[-1, :2], [-16.8, -0.7], atol=1e-12)


def test_rxr_ce_has_names_of_text_and_no_geodesic(tmp_path):
    spoken = dict(rxr_ce()["instruction"], language="hi-IN")
    path = write(tmp_path / "train_guide.json.gz", {"episodes": [rxr_ce(), rxr_ce(episode_id="2", instruction=spoken)]})
    routes = read_vln_ce(path)
    assert [(one.episode_id, one.language, one.geodesic_m) for one in routes] == [
        ("1", "en-US", None),
        ("2", "hi-IN", None),
    ]
    assert routes[0].goal_radius_m == 3.0
    assert routes[0].start_pose == pytest.approx((0.0, -2.0, math.pi / 2))
    assert [one.episode_id for one in read_vln_ce(path, language="en")] == ["1"]


def test_a_split_with_secret_goals_has_no_goal_and_no_path(tmp_path):
    secret = {key: value for key, value in r2r_ce().items() if key not in ("goals", "reference_path", "info")}
    (route,) = read_vln_ce(write(tmp_path / "test.json", ce(secret)))
    assert route.goal is None
    assert route.reference_path.shape == (0, 3)
    assert route.geodesic_m is None


def test_quaternions_in_the_other_order_are_found_by_who_stands_upright(tmp_path):
    turned = [r2r_ce(start_rotation=[HALF, 0.0, HALF, 0.0]), r2r_ce(episode_id=2, start_rotation=[1.0, 0.0, 0.0, 0.0])]
    path = write(tmp_path / "a.json", ce(*turned))
    with pytest.warns(UserWarning, match="stands upright as w, x, y, z alone"):
        routes = read_vln_ce(path)
    assert [one.start_yaw_rad for one in routes] == pytest.approx([math.pi / 2, 0.0])


@pytest.mark.parametrize("rotation", [[0.5, 0.5, 0.5, 0.5], [0.0, 0.5, 0.0, 0.5], [0.0, 0.0, 1.0], [0.0] * 4])
def test_rotations_of_no_upright_robot_are_refused(tmp_path, rotation):
    path = write(tmp_path / "a.json", ce(r2r_ce(), r2r_ce(start_rotation=rotation)))
    with pytest.raises(DataError, match="start_rotation must be unit quaternions about the vertical"):
        read_vln_ce(path)


def test_no_rotation_is_upright_in_both_orders():
    rng = np.random.default_rng(0)
    for yaw in [0.0, math.pi, *rng.uniform(-math.pi, math.pi, size=50)]:
        right = [0.0, math.sin(yaw / 2), 0.0, math.cos(yaw / 2)]
        assert math.remainder(upright_yaw(right) - yaw, math.tau) == pytest.approx(0.0, abs=1e-9)
        assert upright_yaw([-one for one in right]) == pytest.approx(upright_yaw(right), abs=1e-9)
        assert upright_yaw(right, scalar_last=False) is None
        assert upright_yaw([right[3], *right[:3]], scalar_last=False) == pytest.approx(upright_yaw(right))


def test_unreachable_goals_and_empty_paths_are_left_out_with_a_warning(tmp_path):
    bad = [
        r2r_ce(episode_id=2, info={"geodesic_distance": math.inf}),
        r2r_ce(episode_id=3, info={"geodesic_distance": math.nan}),
        r2r_ce(episode_id=4, reference_path=[]),
        r2r_ce(episode_id=5, instruction={"instruction_text": ""}),
    ]
    path = write(tmp_path / "a.json", ce(r2r_ce(), *bad))
    with pytest.warns(UserWarning, match=r"left out 4 episodes with a goal out of reach.*\['2', '3', '4', '5'\]"):
        (route,) = read_vln_ce(path)
    assert route.episode_id == "1"
    with (
        pytest.warns(UserWarning, match="left out 4"),
        pytest.raises(DataError, match="must hold an episode, got none of 4"),
    ):
        read_vln_ce(write(tmp_path / "b.json", ce(*bad)))


def test_broken_files_are_named(tmp_path):
    with pytest.raises(DataError, match="must be a file, got nothing there"):
        read_vln(tmp_path / "missing.json")
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(b'{"episodes": []}')[:-9])
    with pytest.raises(DataError, match=r"cut\.json\.gz must hold JSON, got EOFError"):
        read_vln_ce(tmp_path / "cut.json.gz")
    (tmp_path / "half.json").write_text('{"episodes": ')
    with pytest.raises(DataError, match="must hold JSON, got JSONDecodeError"):
        read_vln_ce(tmp_path / "half.json")
    with pytest.raises(DataError, match=r"episode 0 must have 'scan'"):
        read_vln(write(tmp_path / "a.json", [{key: value for key, value in r2r().items() if key != "scan"}]))
    with pytest.raises(DataError, match=r"Use read_vln_ce for VLN-CE"):
        read_vln(write(tmp_path / "b.json", ce(r2r_ce())))
    with pytest.raises(DataError, match=r"Use read_vln for R2R"):
        read_vln_ce(write(tmp_path / "c.json", [r2r()]))
    with pytest.raises(DataError, match="episode 1 must have 'start_position'"):
        read_vln_ce(write(tmp_path / "d.json", ce(r2r_ce(start_position=None))))
    with pytest.raises(DataError, match="places of episode '1' must be three numbers each"):
        read_vln_ce(write(tmp_path / "e.json", ce(r2r_ce(reference_path=[[0, 0]]))))
    with pytest.raises(DataError, match="places of episode '1' must be finite"):
        read_vln_ce(write(tmp_path / "f.json", ce(r2r_ce(start_position=[math.nan, 0, 0]))))
    with pytest.raises(DataError, match="must hold actions and locations of episode '1'"):
        read_vln_ce(
            write(tmp_path / "g.json", ce(r2r_ce())), ground_truth=write(tmp_path / "g_gt.json", {"9": {"actions": []}})
        )
    with pytest.raises(DataError, match="must hold a list of viewpoints, got a dict"):
        read_connectivity(write(tmp_path / "s_connectivity.json", {}))
    with pytest.raises(DataError, match="every viewpoint must have 'image_id'"):
        read_connectivity(write(tmp_path / "s_connectivity.json", [{"pose": []}]))
    with pytest.raises(DataError, match="unobstructed of 'a' must have an entry for each of the 1 viewpoints, got 2"):
        read_connectivity(write(tmp_path / "s_connectivity.json", [viewpoint("a", 0, 0, [True, True])]))


def with_truth(folder, actions, *, name="train"):
    """A split of two episodes that share their actions, with the file of ground truth beside it."""
    truth = {number: {"actions": actions, "locations": [[0, 0, 0]] * len(actions)} for number in ("1", "2")}
    write(folder / f"{name}_gt.json.gz", truth)
    return write(folder / f"{name}.json.gz", ce(r2r_ce(), r2r_ce(episode_id=2)))


def test_a_split_is_a_data_set_of_text_and_waypoints(tmp_path):
    path = with_truth(tmp_path, [2, 1, 3, 0])
    reader = DemonstrationSet(root=str(path), embodiment="miniworld_agent", rate_hz=2.0).open()
    assert (reader.name, reader.num_episodes, reader.rate_hz, reader.views) == ("train", 2, 2.0, {})
    turn = math.radians(15)
    expected = [[0, 0, turn], [0.25, 0, 0], [0, 0, -turn], [0, 0, 0]]
    np.testing.assert_allclose(reader.actions(1), expected, atol=1e-7)
    assert reader.instruction_at(0, 3) == "Walk to the other end of the lobby."


def test_the_turns_of_rxr_ce_are_wider(tmp_path):
    source = open_source(with_truth(tmp_path, [2, 0]), options={"turn_degrees": 30.0})
    np.testing.assert_allclose(source.column(0, "action")[0], [0, 0, math.pi / 6])


def test_a_split_without_its_actions_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"train_gt\.json must be a file, got nothing there"):
        open_source(write(tmp_path / "train.json", ce(r2r_ce())))
    with pytest.raises(DataError, match=r"actions of episode '1' must move, got \(0,\)"):
        open_source(with_truth(tmp_path, [0]))
