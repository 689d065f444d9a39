"""`vla-kit data caption` against a real server that answers from a script."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from threading import Barrier, Event, Lock

import numpy as np
import pytest
from caption_script import answer_well, caption_of, outline_of, stage_of, told
from jsonargparse import auto_cli
from PIL import Image
from scripted_endpoint import Reply, ScriptedEndpoint, parts_of, pictures_of, words_of

from vla_kit.data.captions.annotator import AnnotatorAnswer
from vla_kit.data.captions.ask import ask
from vla_kit.data.captions.caption import caption, write_prompt_folder
from vla_kit.data.captions.caption_log import CaptionLog
from vla_kit.data.captions.fine_caption import DIMENSIONS, FineCaption
from vla_kit.data.captions.looking import FrameChoice, frames_to_see
from vla_kit.data.captions.motion_selection import MotionSelection
from vla_kit.data.captions.openai_annotator import OpenAIAnnotator
from vla_kit.data.captions.prompt_folder import PROMPT_FIELDS, PromptFolder
from vla_kit.data.captions.usage import AnnotationUsage, TokenPrices
from vla_kit.data.cleaning.decisions import Decision, Decisions
from vla_kit.data.readers.open import open_source
from vla_kit.errors import AnnotatorError, DataError, SettingError

TOP, WRIST = "observation.images.top", "observation.images.wrist"


@pytest.fixture
def run(write_set, tmp_path):
    """Caption the episodes of a small set, `{"task 0", "task 1"}` told in turn, of 25, 1 and 11 frames at 10 Hz."""
    root, _ = write_set(lengths=(25, 1, 11))

    def go(script=answer_well, *, retries=2, **settings):
        settings = {"output": str(tmp_path / "captions"), "camera": TOP, "other_cameras": [], "parallel": 1, **settings}
        with ScriptedEndpoint(script) as endpoint:
            annotator = OpenAIAnnotator("qwen", base_url=endpoint.url, retries=retries)
            try:
                go.log = caption(str(root), annotator, **settings)
            finally:
                go.bodies = endpoint.bodies
        return go.log

    go.root, go.folder = root, tmp_path / "captions"
    return go


def lines(folder: Path):
    return [json.loads(line) for line in (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()]


def test_two_stages_see_few_and_then_many_frames(run):
    log = run(episodes=[0])
    watch, describe = run.bodies
    assert (stage_of(watch), stage_of(describe)) == ("watch", "describe")
    assert (pictures_of(watch), pictures_of(describe)) == (3, 11)  # 2.4 s at 1 and at 4 frames a second
    assert '"task 0"' in words_of(watch)
    assert outline_of("task 0") in words_of(describe)
    assert all(f"- {name}: {says}" in words_of(describe) for name, says in DIMENSIONS.items())
    times = [float(part.split()[0]) for part in words_of(describe).splitlines() if part.endswith(" s:")]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (0.0, 2.4)
    record = log.records[0]
    assert record.caption.plain() == caption_of("task 0")
    assert record.caption.instruction == "Step 1: Reach to task 0. Step 2: Do it."
    assert record.frames == {TOP: (0, 2, 5, 7, 10, 12, 14, 17, 19, 22, 24)}
    assert record.usage == AnnotationUsage(requests=2, input_tokens=20 + 100 * 14, output_tokens=14)
    assert (record.model, record.prompts, record.instruction) == ("qwen", PromptFolder().digest, "task 0")
    assert record.outline.plain() == json.loads(outline_of("task 0"))


def test_other_cameras_are_a_third_pass_with_as_many_pictures(run):
    log = run(episodes=[0], other_cameras=None)
    assert [stage_of(body) for body in run.bodies] == ["watch", "describe", "other_views"]
    assert f"{WRIST}, 2.40 s:" in words_of(run.bodies[2])
    assert json.dumps(caption_of("task 0")) in words_of(run.bodies[2])
    assert log.records[0].caption.dimensions.actor == "actor seen at the wrist"
    assert set(log.records[0].frames) == {TOP, WRIST}
    assert json.loads((run.folder / "captions.json").read_text())["settings"]["other_cameras"] == [WRIST]


def test_all_episodes_are_captioned_and_the_same_command_asks_nothing_more(run, capsys):
    log = run(prices=TokenPrices(input=1.0, output=2.0))
    assert sorted(log.records) == [0, 1, 2]
    assert len(run.bodies) == 6
    usage = sum((record.usage for record in log.records.values()), AnnotationUsage())
    cost = (usage.input_tokens + 2 * usage.output_tokens) / 1e6
    printed = capsys.readouterr().out
    assert "3 of 3 episodes have captions. This run: 6 requests, 0 retries, 0 repairs, " in printed
    assert f"{usage.output_tokens} written, cost {cost:.4g}." in printed
    assert run().records == log.records
    assert run.bodies == []
    assert CaptionLog(run.folder).records == log.records


def test_an_answer_that_cannot_be_used_is_asked_for_again_with_what_is_wrong(run):
    broken = [
        Reply("I see a robot."),
        Reply('{"object": "a pear", "actions": []}'),
        None,
        Reply(json.dumps({**caption_of("task 0"), "steps": caption_of("task 0")["steps"][1:]})),
        None,
    ]
    log = run(lambda number, body: broken[number] or answer_well(number, body), episodes=[0])
    first, second, third, _, last = run.bodies
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][1]["content"] == "I see a robot."
    assert "answer must be one JSON object, got 'I see a robot.'" in words_of(second)
    assert "actions must be a list of 1 to 40 entries, got 0 entries" in words_of(third)
    assert "I see a robot." not in words_of(third)  # only the last answer is shown
    assert "steps[0].number must be 1, got 2" in words_of(last)
    assert pictures_of(first) == pictures_of(second)
    assert (log.records[0].usage.requests, log.records[0].usage.repairs) == (5, 3)


def test_an_episode_without_a_usable_answer_is_named_and_the_others_are_kept(run):
    def script(number, body):
        bad = stage_of(body) == "describe" and told(body) == "task 1"
        return Reply("{}") if bad else answer_well(number, body)

    with pytest.raises(DataError, match=r"1 of 3 episodes could not be captioned: \[1\]\. Episode 1: .*no such answer"):
        run(script)
    assert [line["episode"] for line in lines(run.folder)] == [0, 2]
    assert len(run.bodies) == 2 + 2 + 4  # three answers of the second stage of episode 1
    assert sorted(run().records) == [0, 1, 2]
    assert len(run.bodies) == 2


def test_retries_of_the_connection_are_counted(run):
    busy = Reply("busy", status=429, headers={"retry-after-ms": "1"})
    log = run(lambda number, body: busy if number in (0, 2) else answer_well(number, body), episodes=[0])
    assert log.records[0].usage == AnnotationUsage(requests=2, retries=2, input_tokens=1420, output_tokens=14)


def test_a_first_answer_is_not_asked_for_again_after_a_run_that_was_stopped(run):
    def script(number, body):
        return answer_well(number, body) if stage_of(body) == "watch" else Reply("no credit", status=403)

    with pytest.raises(AnnotatorError, match="got 403"):
        run(script, episodes=[0])
    assert [stage_of(body) for body in run.bodies] == ["watch", "describe"]
    kept = run.folder / "begun" / "0.json"
    whole = kept.read_text()
    kept.write_text("{}")
    with pytest.raises(DataError, match=r"0\.json must hold the first answer of an episode, got: KeyError"):
        run(episodes=[0])
    kept.write_text(whole)  # the failed episode was forgotten
    log = run(episodes=[0])
    assert [stage_of(body) for body in run.bodies] == ["describe"]
    assert outline_of("task 0") in words_of(run.bodies[0])
    assert log.records[0].outline.plain() == json.loads(outline_of("task 0"))
    assert log.records[0].usage == AnnotationUsage(requests=2, input_tokens=20 + 100 * 14, output_tokens=14)
    assert not kept.exists()


def test_an_endpoint_that_is_gone_stops_the_run_and_keeps_what_is_done(run):
    def script(number, body):
        return answer_well(number, body) if number < 2 else Reply("no credit", status=403)

    with pytest.raises(AnnotatorError, match=r"got 403: .*no credit"):
        run(script)
    assert len(run.bodies) == 3
    assert [line["episode"] for line in lines(run.folder)] == [0]
    assert sorted(run().records) == [0, 1, 2]
    assert len(run.bodies) == 4


@pytest.mark.parametrize("parallel", [1, 3])
def test_so_many_episodes_are_asked_for_at_a_time(run, parallel):
    together, lock, now, most = Barrier(parallel), Lock(), [0], [0]

    def script(number, body):
        return answer_well(number, body)

    class Counting(OpenAIAnnotator):
        def answer(self, messages, *, schema=None):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            if schema == FineCaption.schema():
                together.wait(60)  # breaks where fewer run at a time
            answer = super().answer(messages, schema=schema)
            with lock:
                now[0] -= 1
            return answer

    with ScriptedEndpoint(script) as endpoint:
        annotator = Counting("qwen", base_url=endpoint.url)
        log = caption(str(run.root), annotator, str(run.folder), camera=TOP, other_cameras=[], parallel=parallel)
    assert sorted(log.records) == [0, 1, 2]
    assert most == [parallel]


PROGRAM = """
import sys
from vla_kit.data.captions.caption import caption
from vla_kit.data.captions.openai_annotator import OpenAIAnnotator
root, folder, url = sys.argv[1:]
annotator = OpenAIAnnotator("qwen", base_url=url)
caption(root, annotator, folder, camera="observation.images.top", other_cameras=[], parallel=1)
"""


def test_kill_9_loses_nothing_that_was_written(run):
    asked, never = Event(), Event()

    def script(number, body):
        if number == 3:  # the second stage of the second episode
            asked.set()
            return Reply(hold=never)
        return answer_well(number, body)

    with ScriptedEndpoint(script) as endpoint:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(run.root), str(run.folder), endpoint.url])
        try:
            while not asked.wait(0.2):
                assert process.poll() is None, "the run must not end before it is killed"
            process.kill()
            process.wait()
        finally:
            never.set()
            process.kill()
    path = run.folder / "captions.jsonl"
    before = path.read_bytes()
    assert [line["episode"] for line in lines(run.folder)] == [0]
    path.write_bytes(before + before[:100])  # as if it had been killed within a line
    assert sorted(CaptionLog(run.folder).records) == [0]
    log = run()
    assert path.read_bytes().startswith(before)
    assert [line["episode"] for line in lines(run.folder)] == [0, 1, 2] == sorted(log.records)
    assert [told(body) for body in run.bodies] == ["task 1", "task 0", "task 0"]  # the first answer was kept


def test_a_folder_of_other_settings_or_another_data_set_is_refused(run, write_set, tmp_path):
    run(episodes=[1])
    with pytest.raises(SettingError, match=r"captions of the same settings, got .*, where dense_hz was 4.0 and is 2.0"):
        run(frames=FrameChoice(dense_hz=2.0))
    other, _ = write_set("other", seed=7)
    with ScriptedEndpoint(answer_well) as endpoint, pytest.raises(DataError, match=r"captions must be of .*other"):
        caption(str(other), OpenAIAnnotator("qwen", base_url=endpoint.url), str(run.folder), camera=TOP)
    path = run.folder / "captions.jsonl"
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(DataError, match=r"line 1 of .*captions\.jsonl must be a caption, got: data must"):
        CaptionLog(run.folder)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"parallel": 0}, SettingError, "parallel must be at least 1, got 0"),
        ({"attempts": 0}, SettingError, "attempts must be at least 1, got 0"),
        ({"camera": "top"}, DataError, "camera must be one of .*, got 'top'"),
        ({"other_cameras": ["left"]}, DataError, "camera must be one of .*, got 'left'"),
        ({"episodes": [3]}, SettingError, r"episodes must lie in \[0, 3\)"),
        ({"rate_hz": 0.0}, SettingError, "rate_hz must be given for .*, got 0.0"),
        ({"prompts": "no/folder"}, SettingError, "prompts must be a folder, got 'no/folder'"),
        ({"selection": MotionSelection(share=0.5, gripper=[3])}, SettingError, r"gripper must lie in \[0, 3\), got 3"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_asked(run, settings, error, text):
    with pytest.raises(error, match=text):
        run(**settings)
    assert run.bodies == []


def test_no_annotator_is_refused(run):
    with pytest.raises(SettingError, match="annotator must be given, got none"):
        caption(str(run.root))


def test_the_command_line_builds_annotator_selection_and_frames(run, tmp_path):
    with ScriptedEndpoint(answer_well) as endpoint:
        arguments = [
            str(run.root),
            "--annotator=vla_kit.data.captions.openai_annotator.OpenAIAnnotator",
            "--annotator.model=qwen",
            f"--annotator.base_url={endpoint.url}",
            f"--output={run.folder}",
            "--frames.most=2",
            "--selection.share=0.5",
            "--prices={input: 1, output: 2}",
        ]
        log = auto_cli(caption, args=arguments)
    assert len(log.records) == 2  # one of each task
    assert {pictures_of(body) for body in endpoint.bodies} <= {1, 2}


def test_prompts_can_be_edited_and_are_part_of_where_a_caption_comes_from(run, tmp_path):
    folder = tmp_path / "prompts"
    write_prompt_folder(str(folder))
    assert {path.stem for path in folder.iterdir()} == set(PROMPT_FIELDS)
    assert PromptFolder(folder).digest == PromptFolder().digest
    with pytest.raises(DataError, match="folder must be one that can be written"):
        write_prompt_folder(str(folder))
    for name in set(PROMPT_FIELDS) - {"watch"}:
        (folder / f"{name}.txt").unlink()
    (folder / "watch.txt").write_text('You watch an episode for 5 $$ an hour: "$instruction"', encoding="utf-8")
    log = run(episodes=[1], prompts=str(folder))
    assert 'You watch an episode for 5 $ an hour: "task 1"' in words_of(run.bodies[0])
    assert stage_of(run.bodies[1]) == "describe"
    assert log.records[1].prompts == PromptFolder(folder).digest != PromptFolder().digest


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("watching", "hello", "prompts must be named"),
        ("watch", "the $outline", r"must have no words after a dollar sign but \['instruction'\], got 'outline'"),
        ("watch", "${outline}", "got 'outline'"),
        ("watch", "5 $ an hour", "must have a word after each dollar sign"),
    ],
)
def test_a_broken_prompt_is_named(tmp_path, name, text, fault):
    (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    with pytest.raises(SettingError, match=fault):
        PromptFolder(tmp_path)


def test_words_that_look_like_places_stay_as_they_are():
    assert 'told: "put 5 $ into $box"' in PromptFolder().fill("watch", instruction="put 5 $ into $box")


def test_asking_gives_up_with_the_last_fault():
    class Mute:
        model = "mute"

        def answer(self, messages, *, schema=None):
            return AnnotatorAnswer(text="")

    with pytest.raises(DataError, match=r"mute must answer as asked, got no such answer in 2\. The last: answer"):
        ask(Mute(), [], FineCaption.parse, schema={}, prompts=PromptFolder(), attempts=2)


@pytest.mark.parametrize(
    ("length", "wanted_hz", "most", "frames"),
    [(1, 4.0, 9, [0]), (2, 0.1, 9, [0, 1]), (11, 1.0, 9, [0, 10]), (21, 1.0, 9, [0, 10, 20]), (5, 99.0, 3, [0, 2, 4])],
)
def test_frames_are_spread_from_the_first_to_the_last(length, wanted_hz, most, frames):
    assert frames_to_see(length, recorded_hz=10.0, wanted_hz=wanted_hz, most=most) == frames


def test_large_pictures_shrink_and_keep_their_shape(run):
    run(episodes=[1], frames=FrameChoice(width=24))
    url = next(part for part in parts_of(run.bodies[0]) if part["type"] == "image_url")["image_url"]["url"]
    assert Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size == (24, 16)  # of 48 x 32


def test_empty_episodes_and_dropped_ones_are_left_out(run, tmp_path):
    source = open_source(run.root)
    decisions = Decisions(
        data_set=source.name,
        fingerprint=source.fingerprint,
        location=source.location,
        num_episodes=3,
        entries=(Decision(episode=0, rule="by hand"), Decision(episode=1, rule="by hand", keep=True)),
    )
    decisions.write(tmp_path / "decisions.json")
    assert sorted(run(decisions=str(tmp_path / "decisions.json")).records) == [1, 2]


def test_prices_and_frame_choices_out_of_range_are_refused():
    with pytest.raises(SettingError, match="input and output must be prices of at least 0, got -1 and 0"):
        TokenPrices(input=-1, output=0)
    with pytest.raises(SettingError, match="dense_hz must be above 0 and finite, got 0"):
        FrameChoice(dense_hz=0)
    with pytest.raises(SettingError, match="most must be at least 2, got 1"):
        FrameChoice(most=1)
    assert np.isclose(TokenPrices(input=1, output=4).cost(AnnotationUsage(input_tokens=10, output_tokens=5)), 3e-5)
