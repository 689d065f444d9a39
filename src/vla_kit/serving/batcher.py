"""Requests of many clients, answered by the policy in batches."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from vla_kit.errors import DataError, OverloadError, SettingError
from vla_kit.policy import PolicyObservation

__all__ = ["Answer", "Batcher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a request got, and what it took.

    Args:
        actions: Native actions of one chunk.
        queue_ms: Time for which the request waited [ms].
        policy_ms: Time for which the policy computed its batch [ms].
        batch_size: Requests in that batch.
    """

    actions: Float[np.ndarray, "step size"]
    queue_ms: float
    policy_ms: float
    batch_size: int


@dataclass(slots=True)
class _Request:
    observation: PolicyObservation
    answer: asyncio.Future[Answer]
    arrived: float = field(default_factory=time.perf_counter)


class Batcher:
    """A bounded queue before a policy that answers several observations at once.

    The policy runs in a thread of its own, one batch at a time. While it is busy, requests gather; once it is free, it
    takes them all. Clients that work in step ask again as soon as they are answered: for `max_wait_ms` after a batch
    the policy waits for those of its clients that have not, so that they go on sharing batches. Nobody else is waited
    for, so a client among silent ones is served as if it were alone. Where the policy raises on a batch, each of its
    requests is tried alone, so one client's observation cannot cost the others their answers.

    Args:
        act: Answers a batch of observations with a chunk each; `Policy.act`, for example.
        max_batch: Most observations in one call of `act`.
        max_wait_ms: Longest wait for clients that were just answered, counted from their answer [ms].
        max_queue: Most requests that may wait; further ones are refused.
        on_batch: Told the size and the seconds of each batch that the policy answered.

    Raises:
        SettingError: If a number is below its minimum or not finite.

    Examples:
        >>> async def ask() -> tuple[int, ...]:
        ...     batcher = Batcher(lambda seen: [np.zeros((4, 2)) for _ in seen])
        ...     async with batcher:
        ...         answer = await batcher.ask(PolicyObservation(embodiment="arm", instruction="push", views={}))
        ...     return answer.actions.shape
        >>> asyncio.run(ask())
        (4, 2)
    """

    def __init__(
        self,
        act: Callable[[Sequence[PolicyObservation]], Sequence[Float[np.ndarray, "step size"]]],
        *,
        max_batch: int = 8,
        max_wait_ms: float = 5.0,
        max_queue: int = 64,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        for name, count in (("max_batch", max_batch), ("max_queue", max_queue)):
            if count < 1:
                raise SettingError(f"{name} must be at least 1, got {count}. Count requests.")
        if not 0 <= max_wait_ms < math.inf:
            raise SettingError(f"max_wait_ms must be at least 0 and finite, got {max_wait_ms}. Give milliseconds.")
        self.max_batch = max_batch
        self.max_wait_ms = max_wait_ms
        self.max_queue = max_queue
        self._clients = 0
        self._act = act
        self._on_batch = on_batch
        self._waiting: deque[_Request] = deque()
        self._changed = asyncio.Event()
        self._expected = 0  # requests of the next batch, if everybody who was just answered asks again
        self._until = -math.inf  # how long they are waited for
        self._stopped = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="policy")
        self._loop: asyncio.Task[None] | None = None

    @property
    def clients(self) -> int:
        """Connected clients, kept up to date by whoever connects them; each asks for one thing at a time."""
        return self._clients

    @clients.setter
    def clients(self, count: int) -> None:
        self._clients = count
        self._changed.set()  # nobody waits for one that has left

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    async def __aenter__(self) -> "Batcher":
        """Begin to answer."""
        self._loop = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *raised: object) -> None:
        """Answer what waits, then stop."""
        self._stopped = True
        self._changed.set()
        if self._loop is not None:
            await self._loop
        self._thread.shutdown()

    async def warm_up(self, observations: Sequence[PolicyObservation]) -> None:
        """Let the policy answer each of some observations alone, and a whole batch of them, before anybody waits.

        Args:
            observations: At least one.
        """
        whole = [observations[place % len(observations)] for place in range(self.max_batch)]
        for batch in [*([observation] for observation in observations), whole]:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._act, batch)

    async def ask(self, observation: PolicyObservation) -> Answer:
        """Put an observation into the queue and wait for its answer.

        Args:
            observation: One robot's.

        Returns:
            The answer.

        Raises:
            OverloadError: If the queue is full or the batcher has stopped.
            DataError: If the policy answers with NaN or infinity.
            Exception: What the policy raises on this observation.
        """
        if self._stopped:
            raise OverloadError("ask must come before the batcher stops, got one after. Ask another server.")
        if len(self._waiting) >= self.max_queue:
            raise OverloadError(
                f"queue must hold at most {self.max_queue} requests, got {len(self._waiting)} waiting. Ask again later."
            )
        request = _Request(observation, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._changed.set()
        return await request.answer

    def refuse_waiting(self) -> None:
        """Answer whoever waits with an `OverloadError`; a batch that the policy has begun goes on."""
        while self._waiting:
            _settle(self._waiting.popleft(), OverloadError("the server stops before it can answer. Ask another one."))

    async def _run(self) -> None:
        while batch := await self._collect():
            await self._answer(batch)
            self._expected = len(self._waiting) + len(batch)
            self._until = time.perf_counter() + self.max_wait_ms / 1000

    async def _collect(self) -> list[_Request]:
        """The next batch; empty in the end."""
        while not self._waiting and not self._stopped:
            await self._change(None)
        while len(self._waiting) < min(self.max_batch, self.clients, self._expected) and not self._stopped:
            left = self._until - time.perf_counter()
            if left <= 0 or not await self._change(left):
                break
        return [self._waiting.popleft() for _ in range(min(self.max_batch, len(self._waiting)))]

    async def _change(self, seconds: float | None) -> bool:
        """Wait for a request, a client or the end; False where nothing came in time."""
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _answer(self, batch: Sequence[_Request]) -> None:
        start = time.perf_counter()
        try:
            chunks = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._act, [request.observation for request in batch]
            )
            if len(chunks) != len(batch):
                raise DataError(f"act must answer each of {len(batch)} observations, got {len(chunks)} chunks.")
        except Exception as error:
            if len(batch) == 1:
                _settle(batch[0], error)
            else:
                for request in batch:
                    await self._answer([request])
            return
        seconds = time.perf_counter() - start
        if self._on_batch is not None:
            self._on_batch(len(batch), seconds)
        for request, chunk in zip(batch, chunks, strict=True):
            if np.isfinite(chunk).all():
                waited = start - request.arrived
                _settle(
                    request,
                    Answer(actions=chunk, queue_ms=1e3 * waited, policy_ms=1e3 * seconds, batch_size=len(batch)),
                )
            else:
                _settle(request, DataError("actions must be finite, got NaN or infinity. Check the policy's weights."))


def _settle(request: _Request, outcome: Answer | Exception) -> None:
    """Answer a request, unless nobody waits for it any more."""
    if request.answer.done():
        return
    if isinstance(outcome, Answer):
        request.answer.set_result(outcome)
    else:
        request.answer.set_exception(outcome)
