"""A headless Chromium that a test drives through its debugging port."""

import base64
import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from threading import Thread
from typing import Any

import pytest


class Chromium:
    """One page of a browser."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if program is None:
            pytest.skip("no chromium on this machine; on Debian: apt-get install chromium")
        client = pytest.importorskip("websockets.sync.client", reason="websockets comes with vla-kit[serving]")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        place = [f"--user-data-dir={folder}", "--remote-debugging-port=0", "--window-size=1360,1000", "about:blank"]
        self._process = subprocess.Popen(
            [program, *flags, *place], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        listening = (re.search(r"DevTools listening on ws://[^:]+:(\d+)", line) for line in self._process.stderr)
        port = next(found[1] for found in listening if found)
        Thread(target=self._process.stderr.read, daemon=True).start()  # so that it never waits for a reader
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            page = next(target for target in json.load(answer) if target["type"] == "page")
        self._socket = client.connect(page["webSocketDebuggerUrl"], max_size=None)
        self._number = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def wait_for_load(self) -> None:
        """Wait until a page that was asked for since the last call has been loaded."""
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self._socket.recv()))
        self.events = [event for event in self.events if event["method"] != "Page.loadEventFired"]

    def go(self, url: str) -> None:
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait_for_load()

    def run(self, expression: str) -> Any:
        """Value of a JavaScript expression; promises are waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def fill(self, name: str, text: str) -> None:
        self.run(f"document.querySelector('[name={json.dumps(name)}]').value = {json.dumps(text)}")

    def press(self, selector: str) -> None:
        """Click something that leads to another page."""
        self.events.clear()
        self.run(f"document.querySelector({json.dumps(selector)}).click()")
        self.wait_for_load()

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def complaints(self) -> list[str]:
        """What the browser has logged: blocked scripts, missing files, errors."""
        return [event["params"]["entry"]["text"] for event in self.events if event["method"] == "Log.entryAdded"]

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()
