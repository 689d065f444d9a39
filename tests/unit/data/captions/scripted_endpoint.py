"""A real HTTP server on loopback that answers chat completions from a script."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What the server does with one request."""

    text: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None  # in place of a completion
    drop: bool = False  # close the connection without a word
    cut: bool = False  # close it in the middle of the body
    hold: Event | None = None  # wait for this before answering


AT_ONCE = {"retry-after-ms": "1"}  # the client waits a millisecond, so that no test waits for its back-off


class ScriptedEndpoint:
    """Serves until closed. The script gets the number of the request, from 0, and its body."""

    def __init__(self, script: Callable[[int, dict[str, Any]], Reply], *, delay_s: float = 0.0) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.arrived = Event()  # set again by every request
        self._lock = Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with endpoint._lock:
                    number = len(endpoint.bodies)
                    endpoint.bodies.append(body)
                    endpoint.keys.append(self.headers.get("Authorization"))
                    reply = script(number, body)
                    endpoint.arrived.set()
                if reply.hold is not None:
                    reply.hold.wait()
                if reply.drop:
                    self.close_connection = True
                    return
                content = reply.raw if reply.raw is not None else json.dumps(_completion(reply, body)).encode()
                try:
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content[: len(content) // 2] if reply.cut else content)
                except OSError:
                    pass  # the client is gone
                self.close_connection = reply.cut or self.close_connection

            def log_message(self, *args: object) -> None:
                """Be quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "ScriptedEndpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _completion(reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
    if reply.status != 200:
        return {"error": {"message": reply.text, "type": "scripted"}}
    message = {"role": "assistant", "content": reply.text}
    tokens = {"prompt_tokens": 10 * len(body["messages"]) + 100 * pictures_of(body), "completion_tokens": 7}
    return {
        "id": "scripted",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {**tokens, "total_tokens": sum(tokens.values())},
    }


def parts_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """All parts of all user turns."""
    return [part for message in body["messages"] if message["role"] == "user" for part in message["content"]]


def pictures_of(body: dict[str, Any]) -> int:
    return sum(part["type"] == "image_url" for part in parts_of(body))


def words_of(body: dict[str, Any]) -> str:
    """All texts of all user turns."""
    return "\n".join(part["text"] for part in parts_of(body) if part["type"] == "text")
