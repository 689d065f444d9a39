"""Many episodes at once: hosts step in parallel while somebody answers the questions of the others."""

from collections.abc import Callable, Generator, Sequence
from typing import Generic, TypeVar

from vla_kit.envs.hosts import EnvHost
from vla_kit.envs.protocol import SimulationError

__all__ = ["take_turns"]

_EpisodeT = TypeVar("_EpisodeT")
_QuestionT = TypeVar("_QuestionT")
_AnswerT = TypeVar("_AnswerT")
_ResultT = TypeVar("_ResultT")


def take_turns(
    hosts: Sequence[EnvHost],
    *,
    take: Callable[[int], _EpisodeT | None],
    play: Callable[[EnvHost, _EpisodeT], Generator[_QuestionT | None, _AnswerT | None, _ResultT]],
    answer: Callable[[Sequence[_QuestionT]], Sequence[_AnswerT]],
    give_up: Callable[[EnvHost, _EpisodeT, SimulationError], _ResultT],
    on_result: Callable[[_ResultT], None],
) -> None:
    """Play episodes until there are no more.

    The hosts form two halves that take turns: while the questions of one half are answered in one batch, the
    environments of the other work. Who shares a batch depends on the episodes alone, not on how fast a host is.

    A host that fails is restarted and its episode begins again, once; what comes of a second failure says `give_up`.
    What an environment refuses is raised, for it is not the environment's fault; the hosts are closed before.

    Args:
        hosts: At least one.
        take: Number of a host -> the next episode for it; None where there is none.
        play: An episode that stops where it waits: at None for its environment, at a question for its answer.
        answer: Answers the questions of a half, in order.
        give_up: Result of an episode that failed twice; the host was restarted.
        on_result: Called with each result, in the order in which episodes end.

    Raises:
        SimulationError: If an environment cannot be made.
    """
    seats = [_Seat(host, play, give_up) for host in hosts]
    numbers = range(len(hosts))
    halves = [half for half in (numbers[::2], numbers[1::2]) if half]
    try:
        while True:
            for half in halves:
                for number in half:
                    seat = seats[number]
                    if seat.playing:
                        if not seat.go_on(None):
                            continue
                        on_result(seat.result())
                    episode = take(number)
                    if episode is not None:
                        seat.begin(episode)
                asking = [(seats[number], seats[number].question) for number in half]
                questions = [question for _, question in asking if question is not None]
                if questions:
                    asked = [seat for seat, question in asking if question is not None]
                    for seat, chunk in zip(asked, answer(questions), strict=True):
                        if seat.go_on(chunk):
                            on_result(seat.result())
            if not any(seat.playing for seat in seats):
                return
    except BaseException:
        for host in hosts:
            host.close()  # some still work on what nobody will collect
        raise


class _Seat(Generic[_EpisodeT, _QuestionT, _AnswerT, _ResultT]):
    """One host and the episode that it plays."""

    def __init__(
        self,
        host: EnvHost,
        play: Callable[[EnvHost, _EpisodeT], Generator[_QuestionT | None, _AnswerT | None, _ResultT]],
        give_up: Callable[[EnvHost, _EpisodeT, SimulationError], _ResultT],
    ) -> None:
        self._host, self._play, self._give_up = host, play, give_up
        self._going: Generator[_QuestionT | None, _AnswerT | None, _ResultT] | None = None
        self._episode: list[_EpisodeT] = []
        self._results: list[_ResultT] = []
        self._tries = 0
        self.question: _QuestionT | None = None

    @property
    def playing(self) -> bool:
        """Whether an episode is under way."""
        return self._going is not None

    def begin(self, episode: _EpisodeT) -> None:
        """Start an episode, up to where it waits for its environment."""
        self._episode, self._tries = [episode], 0
        self._start()

    def go_on(self, answer: _AnswerT | None) -> bool:
        """Go on to the next stop; True when the episode ended."""
        assert self._going is not None  # noqa: S101 (callers see to it)
        try:
            self.question = self._going.send(answer)
        except StopIteration as end:
            self._end(end.value)
        except SimulationError as error:
            self._host.restart()
            if self._tries == 1:
                self._start()
            else:
                self._end(self._give_up(self._host, self._episode[0], error))
        return self._going is None

    def result(self) -> _ResultT:
        """How the episode ended."""
        return self._results.pop()

    def _start(self) -> None:
        self._tries += 1
        self.question = None
        self._going = self._play(self._host, self._episode[0])
        next(self._going)  # an environment that cannot be made is raised, not counted

    def _end(self, result: _ResultT) -> None:
        self._going = self.question = None
        self._results.append(result)
