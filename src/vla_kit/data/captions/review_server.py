"""A web server for one person on one machine, who reviews captions."""

import io
import secrets
from collections.abc import Mapping
from hmac import compare_digest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any, Final
from urllib.parse import parse_qsl

from vla_kit.data.captions.caption_log import CaptionLog
from vla_kit.data.captions.caption_reviews import CaptionReview, CaptionReviews
from vla_kit.data.captions.fine_caption import FineCaption
from vla_kit.data.captions.looking import to_picture
from vla_kit.data.captions.review_page import draw_episode, draw_overview, read_form
from vla_kit.data.source import EpisodeSource
from vla_kit.errors import DataError, SettingError

__all__ = ["ReviewServer"]

_LARGEST_FORM: Final = 1 << 20
_LAST_PORT: Final = 65535
_WIDTH: Final = 640


class ReviewServer(ThreadingHTTPServer):
    """Shows captions beside the frames of their episodes and keeps what is decided in `reviews.json`.

    It listens to this machine alone and serves no files: an address names an episode, a camera and a frame by their
    numbers. It answers to its own name only (against a web page whose name points here), a form must send back a token
    of its page (against other web pages that send forms), and a page allows no script but its own. A decision is on
    disk before the next page is shown.

    Args:
        source: The data set.
        log: Its captions.
        port: Port on 127.0.0.1; 0 takes a free one.

    Raises:
        DataError: If the captions are of another data set, or earlier reviews are broken or of another data set.
        SettingError: If the port is taken or none.

    Examples:
        ```
        with ReviewServer(open_source("data/pick"), CaptionLog("captions/pick")) as server:
            print(server.url)
            server.serve_forever()
        ```
    """

    daemon_threads = True

    def __init__(self, source: EpisodeSource, log: CaptionLog, *, port: int = 0) -> None:
        if not 0 <= port <= _LAST_PORT:
            raise SettingError(f"port must lie in [0, {_LAST_PORT}], got {port}. Use 0 for any that is free.")
        log.check(source)
        rate_hz = log.header["settings"].get("rate_hz")
        if not isinstance(rate_hz, int | float) or not rate_hz > 0:
            raise DataError(
                f"{log.folder / 'captions.json'} must hold a rate_hz above 0 in its settings, got {rate_hz!r}. Undo "
                "the edit."
            )
        self._source, self._rate_hz = source, float(rate_hz)
        self._records = log.records
        self._path: Path = log.folder / "reviews.json"
        self._reviews = (
            CaptionReviews.read(self._path) if self._path.exists() else CaptionReviews(fingerprint=source.fingerprint)
        )
        if self._reviews.fingerprint != source.fingerprint:
            raise DataError(f"{self._path} must be of {source.location}, got another fingerprint. Move it away.")
        self._reading, self._writing = Lock(), Lock()
        self._token = secrets.token_urlsafe(24)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise SettingError(f"port must be free, got {port}: {error}. Choose another, or 0 for any.") from error

    @property
    def url(self) -> str:
        """Address of the first page."""
        return f"http://127.0.0.1:{self.server_port}/"

    @property
    def names(self) -> tuple[str, ...]:
        """What the `Host` of a request may be."""
        return f"127.0.0.1:{self.server_port}", f"localhost:{self.server_port}"

    def overview(self, nonce: str) -> str:
        """The page of all captions."""
        return draw_overview(self._records, self._verdicts(), name=self._source.name, nonce=nonce)

    def page(self, index: int, nonce: str, *, values: Mapping[str, Any] | None = None, fault: str = "") -> str | None:
        """The page of an episode; None where it has no caption.

        Args:
            index: Episode.
            nonce: Allows style and script of the page.
            values: What stands in the form; what was decided, or else what was written, where None.
            fault: What is wrong with it.
        """
        record = self._records.get(index)
        if record is None:
            return None
        review = self._reviews.of(index, record.caption)
        shown = record.caption if review is None else review.corrected or record.caption
        order = list(self._records)
        place = order.index(index)
        return draw_episode(
            record,
            shown.plain() if values is None else values,
            verdict=None if review is None else review.verdict,
            cameras=list(record.frames),
            length=int(self._source.lengths[index]),
            rate_hz=self._rate_hz,
            neighbours=(order[place - 1] if place else None, order[place + 1] if place + 1 < len(order) else None),
            token=self._token,
            nonce=nonce,
            fault=fault,
        )

    def frame(self, index: int, camera: int, frame: int) -> bytes | None:
        """A frame as JPEG; None where there is none.

        Args:
            index: Episode.
            camera: Place of the camera among those of the caption.
            frame: Frame.
        """
        record = self._records.get(index)
        if record is None or camera >= len(record.frames) or frame >= self._source.lengths[index]:
            return None
        try:
            with self._reading:
                pixels = self._source.images(index, list(record.frames)[camera], [frame])[0]
        except (DataError, OSError):
            return None
        file = io.BytesIO()
        to_picture(pixels, width=_WIDTH).save(file, format="JPEG", quality=85)
        return file.getvalue()

    def decide(self, index: int, fields: Mapping[str, str]) -> str:
        """Keep what a person decided.

        Args:
            index: Episode with a caption.
            fields: Fields of the form.

        Returns:
            What is wrong with the form; empty where it is kept.
        """
        written = self._records[index].caption
        edited = None
        if fields.get("verdict") != "reject":
            try:
                edited = FineCaption.parse(read_form(fields))
            except DataError as error:
                return str(error)
        with self._writing:
            entries = {**self._reviews.entries, index: CaptionReview.of(written, edited)}
            reviews = CaptionReviews(fingerprint=self._reviews.fingerprint, entries=entries)
            try:
                reviews.write(self._path)
            except DataError as error:
                return str(error)
            self._reviews = reviews
        return ""

    def after(self, index: int) -> str:
        """Where to go after an episode: the next one without a review, or the list."""
        order, verdicts = list(self._records), self._verdicts()
        place = order.index(index)
        waiting = [other for other in (*order[place + 1 :], *order[:place]) if other not in verdicts]
        return f"/episode/{waiting[0]}" if waiting else "/"

    def accepts(self, token: str) -> bool:
        """Whether a form came from a page of this server."""
        return compare_digest(token.encode(), self._token.encode())

    def knows(self, index: int) -> bool:
        """Whether an episode has a caption."""
        return index in self._records

    def _verdicts(self) -> dict[int, str]:
        found = {index: self._reviews.of(index, record.caption) for index, record in self._records.items()}
        return {index: review.verdict for index, review in found.items() if review is not None}


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    protocol_version = "HTTP/1.1"
    server_version = "vla-kit"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.names:
            return self._say(421)
        nonce = secrets.token_urlsafe(16)
        kind, *numbers = self._place()
        if kind == "" and not numbers:
            return self._send(200, self.server.overview(nonce), nonce)
        if kind == "episode" and len(numbers) == 1:
            page = self.server.page(numbers[0], nonce)
            return self._say(404) if page is None else self._send(200, page, nonce)
        if kind == "frame" and len(numbers) == 3:
            picture = self.server.frame(*numbers)
            return self._say(404) if picture is None else self._answer(200, picture, {"Content-Type": "image/jpeg"})
        return self._say(404)

    def do_POST(self) -> None:
        size = self.headers.get("Content-Length", "")
        self.close_connection = True  # whatever of the body stays unread is no request
        if self.headers.get("Host") not in self.server.names:
            return self._say(421)
        if not (size.isascii() and size.isdigit()) or int(size) > _LARGEST_FORM:
            return self._say(413)
        kind, *numbers = self._place()
        if kind != "episode" or len(numbers) != 1 or not self.server.knows(numbers[0]):
            return self._say(404)
        body = self.rfile.read(int(size)).decode("utf-8", errors="replace")
        try:
            fields = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=1000))
        except ValueError:
            return self._say(413)
        if not self.server.accepts(fields.get("token", "")):
            return self._say(403)
        fault = self.server.decide(numbers[0], fields)
        if fault:
            nonce = secrets.token_urlsafe(16)
            page = self.server.page(numbers[0], nonce, values=read_form(fields), fault=fault)
            return self._send(422, page or "", nonce)
        return self._answer(303, b"", {"Location": self.server.after(numbers[0])})

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing; a person watches the page."""

    def _place(self) -> tuple[Any, ...]:
        """Kind and numbers of an address, such as `/frame/3/0/17.jpg`; ("?",) for any other."""
        path = self.path.partition("?")[0]
        kind, *rest = path.removeprefix("/").removesuffix(".jpg").split("/")
        if not path.startswith("/") or any(not (part.isascii() and part.isdigit() and len(part) < 10) for part in rest):
            return ("?",)
        return kind, *map(int, rest)

    def _send(self, status: int, page: str, nonce: str) -> None:
        policy = (
            f"default-src 'none'; img-src 'self' data:; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        heads = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy}
        self._answer(status, page.encode(), heads)

    def _say(self, status: int) -> None:
        self._answer(status, f"{status}\n".encode(), {"Content-Type": "text/plain"})

    def _answer(self, status: int, content: bytes, heads: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in heads.items():
            self.send_header(name, value)
        kept = "private, max-age=3600" if heads.get("Content-Type") == "image/jpeg" else "no-store"
        for name, value in (("Cache-Control", kept), ("X-Content-Type-Options", "nosniff")):
            self.send_header(name, value)
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
