"""Reviews: the file, the server and the page, in a real browser."""

import http.client
import io
import json
import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from urllib.parse import urlencode

import numpy as np
import pytest
from caption_form import CaptionForm
from caption_script import caption_of, outline_of
from chromium import Chromium
from PIL import Image

from vla_kit.data.captions.caption_log import CaptionLog
from vla_kit.data.captions.caption_record import CaptionRecord
from vla_kit.data.captions.caption_reviews import CaptionReview, CaptionReviews, usable_captions
from vla_kit.data.captions.fine_caption import DIMENSIONS, FineCaption
from vla_kit.data.captions.outline import CaptionOutline
from vla_kit.data.captions.review import review
from vla_kit.data.captions.review_page import read_form
from vla_kit.data.captions.review_server import ReviewServer
from vla_kit.data.captions.usage import AnnotationUsage
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.errors import DataError, SettingError

EVIL = "</textarea><script>document.title='taken'</script>\"'&"


def make_source(seed=0):
    rng = np.random.default_rng(seed)
    pictures = {key: rng.integers(0, 256, (21, 24, 32, 3), dtype=np.uint8) for key in ("top", "wrist")}
    episode = MemoryEpisode(columns={"action": np.zeros((21, 1))}, cameras=pictures, instruction="pick")
    return MemorySource([episode] * 4, name="lab <set>", rate_hz=10)


def make_record(index, sentence="the pear"):
    return CaptionRecord(
        episode=index,
        instruction=f"pick {sentence}",
        caption=FineCaption.parse(caption_of(sentence)),
        outline=CaptionOutline.parse(json.loads(outline_of(sentence))),
        model="qwen",
        prompts="5d41",
        frames={"top": (0, 10, 20), "wrist": (0, 20)},
        usage=AnnotationUsage(requests=3),
    )


@pytest.fixture
def log(tmp_path):
    made = CaptionLog.begin(tmp_path / "captions", make_source(), {"rate_hz": 10.0})
    for index, sentence in ((0, "the pear"), (1, EVIL), (3, "the cup")):
        made.append(make_record(index, sentence))
    return made


@contextmanager
def serving(source, log, **settings):
    with ReviewServer(source, log, **settings) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.putrequest(method, path, skip_host="Host" in headers)
    content = b"" if body is None else urlencode(body).encode()
    sent = {"Content-Length": str(len(content)), **headers} if body is not None else headers
    for name, value in sent.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(content)
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers
    connection.close()
    return found


def form_of(server, index):
    status, page, _ = ask(server, "GET", f"/episode/{index}")
    assert status == 200
    return CaptionForm(page.decode()).fields


def reviews_of(log):
    return CaptionReviews.read(log.folder / "reviews.json").entries


def test_accepting_correcting_and_rejecting_are_kept_at_once(log):
    with serving(make_source(), log) as server:
        fields = form_of(server, 0)
        assert read_form(fields) == log.records[0].caption.plain()
        status, _, heads = ask(server, "POST", "/episode/0", {**fields, "verdict": "accept"})
        assert (status, heads["Location"]) == (303, "/episode/1")
        assert {index: entry.verdict for index, entry in reviews_of(log).items()} == {0: "accepted"}
        fields = form_of(server, 1)
        changed = {**fields, "dimensions.actor": "left <arm>", "steps.1.text": "Lift it.", "verdict": "accept"}
        _, _, heads = ask(server, "POST", "/episode/1", changed)
        assert heads["Location"] == "/episode/3"
        _, _, heads = ask(server, "POST", "/episode/3", {**form_of(server, 3), "verdict": "reject"})
        assert heads["Location"] == "/"
        assert form_of(server, 1)["dimensions.actor"] == "left <arm>"
        _, page, _ = ask(server, "GET", "/")
        assert b"3 captions, 1 accepted, 1 corrected, 1 rejected, 0 to review" in page
    entries = reviews_of(log)
    assert {index: entry.verdict for index, entry in entries.items()} == {0: "accepted", 1: "corrected", 3: "rejected"}
    assert entries[1].corrected.dimensions.actor == "left <arm>"
    assert entries[1].corrected.steps[1].text == "Lift it."
    assert entries[1].corrected.steps[0] == log.records[1].caption.steps[0]
    usable = usable_captions(CaptionLog(log.folder), reviewed=True)
    assert usable == {0: log.records[0].caption, 1: entries[1].corrected}


def test_steps_can_be_added_and_taken_out(log):
    with serving(make_source(), log) as server:
        fields = form_of(server, 0)
        for part in ("text", "contact", "space", "motion"):
            fields[f"steps.0.{part}"], fields[f"steps.2.{part}"] = " ", f"new {part}"
        assert ask(server, "POST", "/episode/0", {**fields, "verdict": "accept"})[0] == 303
    steps = reviews_of(log)[0].corrected.steps
    assert [(step.number, step.text) for step in steps] == [(1, "Do it."), (2, "new text")]


def test_a_form_with_a_fault_is_shown_again_and_nothing_is_kept(log):
    with serving(make_source(), log) as server:
        fields = {**form_of(server, 0), "dimensions.actor": " ", "steps.0.text": "Mine <now>", "verdict": "accept"}
        status, page, _ = ask(server, "POST", "/episode/0", fields)
    assert status == 422
    assert "dimensions.actor must be a text, got &#x27; &#x27;" in page.decode()
    assert CaptionForm(page.decode()).fields["steps.0.text"] == "Mine <now>"
    assert not (log.folder / "reviews.json").exists()


def test_a_disk_that_is_full_is_said_on_the_page(log):
    with serving(make_source(), log) as server:
        fields = form_of(server, 0)
        server._path = Path("/dev/null/reviews.json")
        status, page, _ = ask(server, "POST", "/episode/0", {**fields, "verdict": "accept"})
        assert status == 422
        assert b"path must be a file that can be written" in page
        assert b"3 to review" in ask(server, "GET", "/")[1]


def test_reviews_survive_and_end_with_the_caption_that_they_were_made_for(log):
    with serving(make_source(), log) as server:
        ask(server, "POST", "/episode/0", {**form_of(server, 0), "verdict": "accept"})
    with serving(make_source(), CaptionLog(log.folder)) as server:
        assert b"1 accepted" in ask(server, "GET", "/")[1]
    log.append(make_record(0, "another pear"))
    assert usable_captions(log, reviewed=True) == {}
    assert set(usable_captions(log, reviewed=False)) == {0, 1, 3}


def test_frames_are_those_of_the_episode(log):
    source = make_source()
    with serving(source, log) as server:
        status, content, heads = ask(server, "GET", "/frame/1/1/20.jpg")
        assert (status, heads["Content-Type"]) == (200, "image/jpeg")
        expected = source.images(1, "wrist", [20])[0].permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(expected).save(file, format="JPEG", quality=85)
        assert content == file.getvalue()
        missing = ["/frame/2/0/0.jpg", "/frame/1/2/0.jpg", "/frame/1/0/21.jpg", "/episode/2", "/frame/1/0", "/x"]
        assert {ask(server, "GET", path)[0] for path in missing} == {404}


@pytest.mark.parametrize(
    "path",
    ["/../captions.json", "/episode/../../captions.json", "/frame/0/0/..%2f..%2fcaptions.json", "//etc/passwd", "*",
     "/frame/-1/0/0.jpg", "/frame/0/0/1e1.jpg", "/episode/%D9%A3", "/episode/99999999999999999999", "/captions.jsonl"],
)  # fmt: skip
def test_no_address_leads_to_a_file(log, path):
    with serving(make_source(), log) as server:
        status, content, _ = ask(server, "GET", path)
    assert (status, content) == (404, b"404\n")


def test_other_pages_of_the_browser_can_neither_read_nor_write(log):
    with serving(make_source(), log) as server:
        assert server.server_address[0] == "127.0.0.1"
        fields = {**form_of(server, 0), "verdict": "accept"}
        for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1"):
            assert ask(server, "GET", "/", Host=host)[0] == 421
            assert ask(server, "POST", "/episode/0", fields, Host=host)[0] == 421
        assert ask(server, "GET", "/", Host=f"localhost:{server.server_port}")[0] == 200
        for token in ("", "wrong", "ü"):
            assert ask(server, "POST", "/episode/0", {**fields, "token": token})[0] == 403
        assert ask(server, "POST", "/episode/2", fields)[0] == 404
        assert ask(server, "POST", "/episode/0", Content_Length="99999999999")[0] == 413
        assert ask(server, "POST", "/episode/0", Content_Length="-1")[0] == 413
        assert ask(server, "POST", "/episode/0")[0] == 413
        _, _, heads = ask(server, "GET", "/")
        assert "default-src 'none'" in heads["Content-Security-Policy"]
        assert (heads["X-Content-Type-Options"], heads["Cache-Control"]) == ("nosniff", "no-store")
    assert not (log.folder / "reviews.json").exists()


def test_what_the_data_say_stays_text(log):
    with serving(make_source(), log) as server:
        page = ask(server, "GET", "/episode/1")[1].decode() + ask(server, "GET", "/")[1].decode()
        assert EVIL in form_of(server, 1)["steps.0.text"]
    assert "<script>document" not in page
    assert "lab &lt;set&gt;" in page


def test_captions_and_reviews_of_another_data_set_are_refused(log):
    with pytest.raises(DataError, match="captions must be of memory:lab"):
        ReviewServer(make_source(seed=1), log)
    CaptionReviews(fingerprint="0000").write(log.folder / "reviews.json")
    with pytest.raises(DataError, match=r"reviews\.json must be of memory:lab"):
        ReviewServer(make_source(), log)
    with pytest.raises(DataError, match=r"reviews\.json must be of the data set of its captions"):
        usable_captions(log, reviewed=True)


def test_a_file_of_reviews_survives_and_its_faults_are_named(tmp_path):
    written = FineCaption.parse(caption_of("the pear"))
    edited = replace(written, steps=written.steps[:1])
    entries = {
        5: CaptionReview.of(written, None),
        2: CaptionReview.of(written, edited),
        4: CaptionReview.of(written, written),
    }
    reviews = CaptionReviews(fingerprint="5d41", entries=entries)
    path = tmp_path / "reviews.json"
    reviews.write(path)
    assert CaptionReviews.read(path) == reviews
    assert [entries[index].verdict for index in (2, 4, 5)] == ["corrected", "accepted", "rejected"]
    assert path.read_text(encoding="utf-8").count('"episode"') == 3
    for change, fault in (
        (('"accepted"', '"fine"'), r"verdict must be one of .*'fine'"),
        (('"corrected"', '"accepted"'), "verdict must be one of"),
        (('"digest"', '"digits"'), r"must hold every key of reviews, got: KeyError\('digest'\)"),
        (("vla-kit caption reviews 1", "reviews"), 'must begin with "format"'),
    ):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(*change), encoding="utf-8")
        with pytest.raises(DataError, match=fault):
            CaptionReviews.read(path)
        path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="must be a file of reviews"):
        CaptionReviews.read(tmp_path / "none.json")


def test_a_port_that_is_taken_is_named(log, monkeypatch):
    source = make_source()
    monkeypatch.setattr("vla_kit.data.captions.review.open_source", lambda root: source)
    with (
        serving(source, log) as server,
        pytest.raises(SettingError, match=f"port must be free, got {server.server_port}"),
    ):
        review(str(log.folder), port=server.server_port)


def test_the_verb_serves_until_it_is_interrupted(log, monkeypatch, capsys):
    source, opened = make_source(), []
    monkeypatch.setattr("vla_kit.data.captions.review.open_source", lambda root: opened.append(root) or source)

    def interrupted(server):
        assert ask_while_serving(server)
        raise KeyboardInterrupt

    def ask_while_serving(server):
        thread = Thread(target=server.handle_request, daemon=True)
        thread.start()
        status = ask(server, "GET", "/")[0]
        thread.join()
        return status == 200

    monkeypatch.setattr(ReviewServer, "serve_forever", interrupted)
    review(str(log.folder), port=0)
    assert opened == ["memory:lab <set>"]
    assert "Review 3 captions at http://127.0.0.1:" in capsys.readouterr().out


@pytest.fixture
def browser(tmp_path):
    made = Chromium(tmp_path / "profile")
    yield made
    made.close()


def test_a_person_reviews_in_a_browser(log, browser, tmp_path):
    with serving(make_source(), log) as server:
        browser.go(server.url)
        assert browser.run("document.querySelectorAll('table a').length") == 3
        browser.press("a[href='/episode/1']")
        assert browser.run("document.title") == "Episode 1"  # the script in its sentence has not run
        pictures = "[...document.images].every(picture => picture.complete && picture.naturalWidth > 0)"
        seen = "Promise.all([...document.images].map(picture => {picture.loading = 'eager'; return picture.decode()}))"
        browser.run(f"{seen}.then(() => true)")
        assert browser.run(pictures)
        browser.run("document.querySelector('input[type=range]').value = 20")
        browser.run("document.querySelector('input[type=range]').dispatchEvent(new Event('input'))")
        assert browser.run("document.querySelector('.main img').src").endswith("/frame/1/0/20.jpg")
        assert browser.run("document.querySelector('output').textContent") == "2.00 s"
        browser.fill("dimensions.actor", "the right hand, größer & <b>")
        browser.fill("steps.0.text", "Reach to the pear.")
        browser.screenshot(Path(os.environ.get("VLA_KIT_SCREENSHOT", tmp_path / "page.png")))
        assert browser.complaints() == []
        browser.press("button[value=accept]")
        assert browser.run("location.pathname") == "/episode/3"
        browser.press("button[value=reject]")
        assert browser.run("location.pathname") == "/episode/0"
        browser.fill("dimensions.object", "")
        browser.press("button[value=accept]")
        assert "dimensions.object must be a text" in browser.run("document.querySelector('[role=alert]').textContent")
        browser.go(server.url)
        assert "1 corrected, 1 rejected, 1 to review" in browser.run("document.body.textContent")
    entries = reviews_of(log)
    assert {index: entry.verdict for index, entry in entries.items()} == {1: "corrected", 3: "rejected"}
    assert entries[1].corrected.dimensions.actor == "the right hand, größer & <b>"
    assert entries[1].corrected.steps[0].text == "Reach to the pear."
    others = set(DIMENSIONS) - {"actor"}
    for name in others:
        assert getattr(entries[1].corrected.dimensions, name) == getattr(log.records[1].caption.dimensions, name)
