"""A policy behind openpi's websocket protocol, for several robots and many clients at once."""

import asyncio
import hmac
import ipaddress
import json
import logging
import math
import signal
import time
import traceback
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

from vla_kit import __version__
from vla_kit.actions import ActionSpace
from vla_kit.embodiment import EmbodimentSpec
from vla_kit.errors import DataError, MissingExtraError, OverloadError, SettingError, VLAKitError
from vla_kit.policy import PolicyObservation
from vla_kit.serving.batcher import Batcher
from vla_kit.serving.metrics import Outcome, ServingMetrics
from vla_kit.serving.observation_keys import ObservationKeys, ObservationReader
from vla_kit.serving.rate_limit import RateLimit
from vla_kit.serving.served_policy import ServedPolicy, state_sizes
from vla_kit.serving.wire import pack_message, unpack_message

try:
    from websockets.asyncio.server import Server, ServerConnection, serve
    from websockets.datastructures import Headers
    from websockets.exceptions import ConnectionClosed
    from websockets.frames import CloseCode
    from websockets.http11 import Request, Response
    from websockets.protocol import State
except ImportError as error:
    raise MissingExtraError("websockets", extra="serving") from error

__all__ = ["PolicyServer"]

_LOG: Final = logging.getLogger(__name__)
_READERS: Final = 4  # threads that unpack messages and decode pictures
_SHORTEST_TOKEN: Final = 16
_LOG_EVERY_S: Final = 60.0


class PolicyServer:
    """Serves a policy over websockets, as openpi does: an unmodified `openpi-client` gets its actions from it.

    A client gets the server's metadata when it connects, then sends one msgpack map after another and gets one with
    `actions` and `server_timing` for each. An error is sent as text, then the connection is closed: with code 1011, or
    1013 where asking again later may help. The same port answers `GET /healthz` (200 once the policy is warm),
    `/metadata` (JSON) and `/metrics` (Prometheus).

    Everything is bounded: connections, the bytes of a message, the requests per second of one client, the requests
    that wait. Whatever goes beyond is refused with a reason.

    Args:
        policy: Answers batches of observations.
        robots: Robots to serve, and where their messages keep what.
        token: Secret that clients must send as `Authorization: Bearer ...` or, as `openpi-client` does with its
            `api_key`, as `Authorization: Api-Key ...`; at least 16 characters. May be None on a loopback address only.
        max_batch: Most observations that the policy answers at once.
        max_wait_ms: Longest wait for clients that were just answered to ask again and share a batch [ms].
        max_queue: Most requests that may wait.
        max_connections: Most clients at once.
        max_message_mb: Largest message [MB]. Up to three per connection may be held in memory.
        max_rate_hz: Requests per second that one client may send on average.
        warm_up_size: Height and width of the pictures on which the policy is warmed up [pixel].
        shutdown_s: Longest time that a shutdown waits for the requests that were accepted [s]; a batch that the policy
            has begun is waited for in any case.

    Raises:
        SettingError: If a number is below its minimum or not finite, or `token` is too short.
        EmbodimentError: If the policy does not know one of the robots.

    Examples:
        >>> from types import SimpleNamespace
        >>> from vla_kit.embodiment import EmbodimentPrompter, preset
        >>> policy = SimpleNamespace(prompter=EmbodimentPrompter([preset("widowx")]), states=None, act=print)
        >>> server = PolicyServer(policy, robots=[ObservationKeys(embodiment="widowx")])
        >>> server.metadata["robots"]["widowx"]["chunk_size"]
        16
    """

    def __init__(
        self,
        policy: ServedPolicy,
        *,
        robots: Sequence[ObservationKeys],
        token: str | None = None,
        max_batch: int = 8,
        max_wait_ms: float = 5.0,
        max_queue: int = 64,
        max_connections: int = 64,
        max_message_mb: float = 16.0,
        max_rate_hz: float = 100.0,
        warm_up_size: int = 224,
        shutdown_s: float = 30.0,
    ) -> None:
        if token is not None and len(token) < _SHORTEST_TOKEN:
            raise SettingError(
                f"token must have at least {_SHORTEST_TOKEN} characters, got {len(token)}. "
                "Make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        numbers: dict[str, float] = {"max_connections": max_connections, "warm_up_size": warm_up_size}
        numbers |= {"max_message_mb": max_message_mb, "max_rate_hz": max_rate_hz, "shutdown_s": shutdown_s}
        for name, number in numbers.items():
            if not 0 < number < math.inf:
                raise SettingError(f"{name} must be above 0 and finite, got {number}. Leave it out for the default.")
        self.metrics = ServingMetrics()
        self._reader = ObservationReader(robots, state_sizes=state_sizes(policy))
        self._batcher = Batcher(
            policy.act, max_batch=max_batch, max_wait_ms=max_wait_ms, max_queue=max_queue, on_batch=self._on_batch
        )
        self.metadata = _describe([policy.prompter.spec(robot.embodiment) for robot in robots], self._reader)
        self._token = token
        self._max_connections = max_connections
        self._max_bytes = int(1e6 * max_message_mb)
        self._max_rate_hz = max_rate_hz
        self._warm_up_size = warm_up_size
        self._shutdown_s = shutdown_s
        self._open: set[ServerConnection] = set()
        self._busy: set[ServerConnection] = set()
        self._ready = asyncio.Event()
        self._draining = False
        self._threads = ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="reader")

    def run(self, host: str = "127.0.0.1", port: int = 8000) -> None:
        """Serve until the process gets SIGTERM or SIGINT, then finish what was accepted.

        Args:
            host: Address to listen on.
            port: Port; 0 for any free one.

        Raises:
            SettingError: If the address can be reached from other machines and there is no token.
        """
        asyncio.run(self._until_signal(host, port))

    async def _until_signal(self, host: str, port: int) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with self.listening(host, port):
            await stop.wait()

    @asynccontextmanager
    async def listening(self, host: str = "127.0.0.1", port: int = 8000) -> AsyncIterator[int]:
        """Serve while the context is open; enter it once.

        The port opens first and clients may connect. They hear from the server when the policy is warm.

        Args:
            host: Address to listen on.
            port: Port; 0 for any free one.

        Yields:
            The port.

        Raises:
            SettingError: If the address can be reached from other machines and there is no token, or it is not free.
            Exception: What the policy raises when it is warmed up.
        """
        if self._token is None and not _is_loopback(host):
            raise SettingError(
                f"token must be given where other machines can connect, got none and host {host!r}. "
                "Give a token, or listen on 127.0.0.1."
            )
        try:
            server = await serve(
                self._converse,
                host,
                port,
                process_request=self._screen,
                origins=[None],  # browsers name theirs: no web page may use a robot's policy
                compression=None,
                max_size=self._max_bytes,
                max_queue=1,
                server_header=None,
            )
        except (OSError, OverflowError) as error:  # the latter of a port beyond 65535
            raise SettingError(
                f"host and port must be free, got {host!r} and {port}: {error}. Choose others."
            ) from error
        number: int = next(iter(server.sockets)).getsockname()[1]
        async with self._batcher:
            try:
                _LOG.info("listening on ws://%s:%d, the policy warms up", host, number)
                start = time.perf_counter()
                await self._batcher.warm_up(self._reader.blanks(self._warm_up_size))
                _LOG.info("ready after %.1f s: %s", time.perf_counter() - start, ", ".join(self._reader.robots))
                self._ready.set()
                log = asyncio.create_task(self._log())
                try:
                    yield number
                finally:
                    log.cancel()
            finally:
                await self._drain(server)
                _LOG.info("stopped: %s", self.metrics.summary())

    async def _log(self) -> None:
        while True:
            await asyncio.sleep(_LOG_EVERY_S)
            _LOG.info("%s", self.metrics.summary())

    async def _drain(self, server: Server) -> None:
        """Accept nothing more, let the requests under way end, and close."""
        _LOG.info("stopping: %d requests are under way", len(self._busy))
        self._draining = True
        self._ready.set()  # whoever waited for it is told to go
        server.close(close_connections=False)
        idle = [
            connection.close(CloseCode.GOING_AWAY, "the server stops")
            for connection in self._open - self._busy
            if connection.state is State.OPEN
        ]
        try:
            async with asyncio.timeout(self._shutdown_s):
                await asyncio.gather(*idle, return_exceptions=True)
                await server.wait_closed()
        except TimeoutError:
            _LOG.warning("%d connections did not end within %g s", len(self._open), self._shutdown_s)
            self._batcher.refuse_waiting()
            for connection in self._open:
                connection.transport.abort()
            await server.wait_closed()
        self._threads.shutdown()

    def _screen(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP, and refuse whoever may not connect; None lets the handshake go on."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            if self._ready.is_set() and not self._draining:
                return connection.respond(HTTPStatus.OK, "OK\n")
            return connection.respond(
                HTTPStatus.SERVICE_UNAVAILABLE, "stopping\n" if self._draining else "warming up\n"
            )
        if self._token is not None and not _has_token(request.headers, self._token):
            refusal = connection.respond(HTTPStatus.UNAUTHORIZED, "Authorization must hold the server's token.\n")
            refusal.headers["WWW-Authenticate"] = "Bearer"
            return refusal
        if path == "/metadata":
            return _typed(connection.respond(HTTPStatus.OK, json.dumps(self.metadata) + "\n"), "application/json")
        if path == "/metrics":
            self.metrics.connections.set(len(self._open))
            self.metrics.waiting.set(self._batcher.waiting)
            return _typed(
                connection.respond(HTTPStatus.OK, self.metrics.text()), "text/plain; version=0.0.4; charset=utf-8"
            )
        self._open = {other for other in self._open if other.state is not State.CLOSED}
        if len(self._open) >= self._max_connections:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "The server has no connection left.\n")
        self._open.add(connection)
        return None

    async def _converse(self, connection: ServerConnection) -> None:
        """One client, from its handshake to its end."""
        _LOG.info("client %s connected", connection.remote_address)
        self._batcher.clients += 1
        limit = RateLimit(rate_hz=self._max_rate_hz)
        seconds: float | None = None
        try:
            await self._ready.wait()
            if not self._draining:
                await connection.send(pack_message(self.metadata))
            while not self._draining:
                message = await connection.recv()
                self._busy.add(connection)
                seconds = await self._exchange(connection, message, limit, before=seconds)
                self._busy.discard(connection)
                if seconds is None:
                    return
            await connection.close(CloseCode.GOING_AWAY, "the server stops")
        except ConnectionClosed as closed:
            _LOG.info("client %s left: %s", connection.remote_address, closed)
        finally:
            self._batcher.clients -= 1
            self._busy.discard(connection)
            self._open.discard(connection)

    async def _exchange(
        self, connection: ServerConnection, message: str | bytes, limit: RateLimit, *, before: float | None
    ) -> float | None:
        """Answer one message; its seconds, of which the next answer tells, or None where the connection was closed."""
        start = time.perf_counter()
        mistaken: Outcome = "invalid"  # whose mistake a VLAKitError is: the client's, until its message has been read
        try:
            observation = await self._observe(message, limit)
            mistaken = "failed"
            answer = await self._batcher.ask(observation)
        except Exception as error:
            outcome: Outcome = mistaken if isinstance(error, VLAKitError) else "failed"
            outcome = "refused" if isinstance(error, OverloadError) else outcome
            await self._refuse(connection, error, outcome)
            return None
        timing = {"infer_ms": answer.policy_ms, "queue_ms": answer.queue_ms, "batch_size": answer.batch_size}
        if before is not None:
            timing["prev_total_ms"] = 1e3 * before
        await connection.send(pack_message({"actions": answer.actions, "server_timing": timing}))
        self.metrics.queue_seconds.observe(answer.queue_ms / 1e3)
        seconds = time.perf_counter() - start
        self.metrics.request_seconds.observe(seconds)
        self.metrics.count("answered")
        return seconds

    async def _observe(self, message: str | bytes, limit: RateLimit) -> PolicyObservation:
        if not limit.allows():
            raise OverloadError(f"a client must send at most {limit.rate_hz:g} requests per second. Wait in between.")
        if isinstance(message, str):
            raise DataError("message must be msgpack bytes, got text. Pack it with openpi_client or pack_message.")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, message)

    def _read(self, message: bytes) -> PolicyObservation:
        return self._reader(unpack_message(message))

    async def _refuse(self, connection: ServerConnection, error: Exception, outcome: Outcome) -> None:
        """Send the reason, then close: the client's own mistake in one line, the server's with its traceback."""
        self.metrics.count(outcome)
        if outcome == "failed":
            _LOG.error("a request of client %s failed", connection.remote_address, exc_info=error)
            text = "".join(traceback.format_exception(error))
        else:
            _LOG.warning("a request of client %s is %s: %s", connection.remote_address, outcome, error)
            text = "".join(traceback.format_exception_only(error))
        await connection.send(text)
        code = CloseCode.TRY_AGAIN_LATER if outcome == "refused" else CloseCode.INTERNAL_ERROR
        await connection.close(code, "the reason is the text of the frame before")

    def _on_batch(self, size: int, seconds: float) -> None:
        self.metrics.batch_size.observe(size)
        self.metrics.policy_seconds.observe(seconds)


def _describe(specs: Sequence[EmbodimentSpec], reader: ObservationReader) -> dict[str, Any]:
    robots: dict[str, Any] = {}
    for spec in specs:
        keys = reader.robots[spec.name]
        robots[spec.name] = {
            "chunk_size": spec.chunk_size,
            "rate_hz": spec.rate_hz,
            "actions": _channels(spec.action_space),
            "views": keys.views,
            "instruction": keys.instruction,
            "state": keys.state,
            "state_channels": _channels(spec.state_space) if spec.name in reader.state_sizes else None,
        }
    return {"server": "vla-kit", "version": __version__, "robots": robots}


def _channels(space: ActionSpace | None) -> list[dict[str, str]]:
    return [
        {"name": channel.name, "kind": channel.kind, "reference": channel.reference, "unit": channel.unit}
        for channel in (() if space is None else space.channels)
    ]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_token(headers: Headers, token: str) -> bool:
    scheme, _, sent = headers.get("Authorization", "").partition(" ")
    known = scheme.lower() in ("bearer", "api-key")
    return hmac.compare_digest(sent.strip().encode(), token.encode()) and known


def _typed(response: Response, content_type: str) -> Response:
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = content_type
    return response
