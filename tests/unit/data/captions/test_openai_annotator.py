"""The client against a real server that fails in every way, from a script."""

import base64
import io
import pickle
import sys
from importlib import import_module
from threading import Event

import pytest
from PIL import Image
from scripted_endpoint import AT_ONCE, Reply, ScriptedEndpoint, parts_of

from vla_kit.data.captions.annotator import Annotator, AnnotatorMessage
from vla_kit.data.captions.openai_annotator import OpenAIAnnotator
from vla_kit.errors import AnnotatorError, DataError, MissingExtraError, SettingError

ASKED = [AnnotatorMessage("user", ("What is it?",))]
SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


def scripted(*replies):
    return ScriptedEndpoint(lambda number, body: replies[min(number, len(replies) - 1)])


def test_messages_settings_and_usage_go_over_the_wire():
    picture = Image.new("RGB", (12, 8), (200, 10, 10))
    messages = [
        AnnotatorMessage("system", ("Be brief.",)),
        AnnotatorMessage("user", ("Look: ", picture, "What is it?")),
        AnnotatorMessage("assistant", ("A pear?",)),
        AnnotatorMessage("user", ("No.",)),
    ]
    with scripted(Reply("an apple")) as endpoint:
        annotator = OpenAIAnnotator("qwen", base_url=endpoint.url, max_tokens=9, extra_body={"top_k": 3})
        answer = annotator.answer(messages, schema=SCHEMA)
    assert isinstance(annotator, Annotator)
    assert annotator.model == "qwen"
    assert (answer.text, answer.input_tokens, answer.output_tokens, answer.retries) == ("an apple", 140, 7, 0)
    body = endpoint.bodies[0]
    assert {key: body[key] for key in ("model", "max_completion_tokens", "temperature", "top_k")} == {
        "model": "qwen",
        "max_completion_tokens": 9,
        "temperature": 0.0,
        "top_k": 3,
    }
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][0]["content"] == "Be brief."
    assert body["messages"][2]["content"] == "A pear?"
    look, image, what, _ = parts_of(body)
    assert (look["text"], what["text"]) == ("Look: ", "What is it?")
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    seen = Image.open(io.BytesIO(base64.b64decode(data)))
    assert seen.size == (12, 8)
    assert all(abs(a - b) <= 3 for a, b in zip(seen.getpixel((5, 4)), (200, 10, 10), strict=True))


@pytest.mark.parametrize(
    ("answer_format", "sent"),
    [
        ("schema", {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}),
        ("object", {"type": "json_object"}),
        ("text", None),
    ],
)
def test_the_format_is_asked_for_as_the_endpoint_knows_it(answer_format, sent):
    with scripted(Reply("{}")) as endpoint:
        annotator = OpenAIAnnotator("qwen", base_url=endpoint.url, answer_format=answer_format, temperature=None)
        annotator.answer(ASKED, schema=SCHEMA)
        annotator.answer(ASKED)
    assert endpoint.bodies[0].get("response_format") == sent
    assert "response_format" not in endpoint.bodies[1]
    assert "temperature" not in endpoint.bodies[0]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_a_failure_that_passes_is_asked_again(status):
    failed = Reply("busy", status=status, headers=AT_ONCE)
    with scripted(failed, failed, Reply("done")) as endpoint:
        answer = OpenAIAnnotator("qwen", base_url=endpoint.url, retries=2).answer(ASKED)
    assert (answer.text, answer.retries, len(endpoint.bodies)) == ("done", 2, 3)


def test_the_endpoints_own_waiting_time_is_kept(monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    busy = Reply("busy", status=429, headers={"Retry-After": "7"})
    with scripted(busy, Reply("done")) as endpoint:
        OpenAIAnnotator("qwen", base_url=endpoint.url).answer(ASKED)
    assert 7.0 in waited


def test_waiting_times_double(monkeypatch):
    waited = []
    monkeypatch.setattr("openai._base_client.time.sleep", waited.append)
    with scripted(*[Reply("broken", status=500)] * 3, Reply("done")) as endpoint:
        OpenAIAnnotator("qwen", base_url=endpoint.url, retries=3).answer(ASKED)
    backed_off = [seconds for seconds in waited if seconds > 0.1]
    assert len(backed_off) == 3
    for place, seconds in enumerate(backed_off):
        assert 0.75 * 0.5 * 2**place <= seconds <= 0.5 * 2**place  # the client takes off up to a quarter


@pytest.mark.parametrize("broken", [Reply(drop=True), Reply(cut=True)], ids=["drop", "cut"])
def test_a_lost_connection_is_asked_again_and_named_in_the_end(broken, monkeypatch):
    monkeypatch.setattr("openai._base_client.time.sleep", lambda seconds: None)
    with scripted(broken, Reply("done")) as endpoint:
        answer = OpenAIAnnotator("qwen", base_url=endpoint.url, retries=1).answer(ASKED)
        assert (answer.text, answer.retries) == ("done", 1)
    with scripted(broken) as endpoint, pytest.raises(AnnotatorError, match="must answer for 'qwen', got API"):
        OpenAIAnnotator("qwen", base_url=endpoint.url, retries=1).answer(ASKED)
    assert len(endpoint.bodies) == 2


def test_an_answer_that_never_comes_is_given_up():
    never = Event()
    with scripted(Reply("late", hold=never)) as endpoint:
        annotator = OpenAIAnnotator("qwen", base_url=endpoint.url, timeout_s=0.05, retries=0)
        with pytest.raises(AnnotatorError, match=r"got APITimeoutError: .* raise timeout_s"):
            annotator.answer(ASKED)
        never.set()


def test_nobody_at_the_address_is_named(monkeypatch):
    monkeypatch.setattr("openai._base_client.time.sleep", lambda seconds: None)
    with scripted(Reply("")) as endpoint:
        url = endpoint.url
    with pytest.raises(AnnotatorError, match=r"got APIConnectionError: .*Check that the endpoint runs"):
        OpenAIAnnotator("qwen", base_url=url, retries=1).answer(ASKED)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_or_model_is_not_asked_again(status):
    with (
        scripted(Reply("no such model", status=status)) as endpoint,
        pytest.raises(AnnotatorError, match=rf"got {status}: .*no such model.*Check the model, the key"),
    ):
        OpenAIAnnotator("qwen", base_url=endpoint.url).answer(ASKED)
    assert len(endpoint.bodies) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_refused_messages_are_the_fault_of_the_messages(status):
    with (
        scripted(Reply("too many pictures", status=status)) as endpoint,
        pytest.raises(DataError, match=rf"got {status}: .*too many pictures.*Use fewer or smaller frames"),
    ):
        OpenAIAnnotator("qwen", base_url=endpoint.url).answer(ASKED)
    assert len(endpoint.bodies) == 1


@pytest.mark.parametrize("raw", [b'{"hello": 1}', b"<html>hello</html>", b'{"choices": []}'])
def test_an_answer_that_is_no_completion_is_named(raw):
    with scripted(Reply(raw=raw)) as endpoint, pytest.raises(AnnotatorError, match="must answer"):
        OpenAIAnnotator("qwen", base_url=endpoint.url, retries=0).answer(ASKED)


def test_an_answer_without_words_or_usage_is_empty():
    raw = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": null}, "finish_reason": "length"}]}'
    with scripted(Reply(raw=raw)) as endpoint:
        answer = OpenAIAnnotator("qwen", base_url=endpoint.url).answer(ASKED)
    assert (answer.text, answer.input_tokens, answer.output_tokens) == ("", 0, 0)


def test_the_key_comes_from_the_named_variable_and_no_other(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret of another service")
    monkeypatch.setenv("LAB_KEY", "lab")
    with scripted(Reply("done")) as endpoint:
        OpenAIAnnotator("qwen", base_url=endpoint.url).answer(ASKED)
        annotator = OpenAIAnnotator("qwen", base_url=endpoint.url, api_key_variable="LAB_KEY")
        annotator.answer(ASKED)
        assert b"Bearer" not in pickle.dumps(annotator)
        assert pickle.loads(pickle.dumps(annotator)).answer(ASKED).text == "done"
    assert endpoint.keys == ["Bearer none", "Bearer lab", "Bearer lab"]
    monkeypatch.delenv("LAB_KEY")
    with pytest.raises(SettingError, match="api_key_variable must name a variable that is set, got 'LAB_KEY'"):
        OpenAIAnnotator("qwen", base_url=endpoint.url, api_key_variable="LAB_KEY")


@pytest.mark.parametrize(
    ("setting", "value"), [("timeout_s", 0), ("retries", -1), ("max_tokens", 0), ("answer_format", "yaml")]
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(SettingError, match=f"{setting} must be "):
        OpenAIAnnotator("qwen", base_url="http://127.0.0.1:9/v1", **{setting: value})


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    name = "vla_kit.data.captions.openai_annotator"
    monkeypatch.setitem(sys.modules, "openai", None)
    monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtraError, match=r"openai is not installed. Run: pip install 'vla-kit\[captions\]'"):
        import_module(name)
