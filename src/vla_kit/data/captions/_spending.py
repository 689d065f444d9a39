"""Show how far a run of captions has come, and what it has spent."""

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vla_kit.data.captions.usage import AnnotationUsage, TokenPrices

__all__ = ["Spending"]


class Spending:
    """A bar with tokens, cost and time left, where somebody watches a terminal.

    Args:
        text: Stands before the bar.
        total: Episodes of the run.
        prices: What tokens cost, where known.
    """

    def __init__(self, text: str, *, total: int, prices: TokenPrices | None) -> None:
        self._prices, self._total, self._done = prices, total, 0
        self._usage = AnnotationUsage()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[spent]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task(text, total=total, spent="")

    def add(self, usage: AnnotationUsage) -> None:
        """Count one more episode."""
        self._done += 1
        self._usage += usage
        self._progress.update(self._task, advance=1, spent=self._words(short=True))

    def __str__(self) -> str:
        return self._words(short=False)

    def __enter__(self) -> "Spending":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def _words(self, *, short: bool) -> str:
        usage = self._usage
        words = [f"{_many(usage.input_tokens)} tokens read", f"{_many(usage.output_tokens)} written"]
        if not short:
            words = [f"{usage.requests} requests", f"{usage.retries} retries", f"{usage.repairs} repairs", *words]
        if self._prices is not None:
            cost = self._prices.cost(usage)
            words.append(f"cost {cost:.4g}")
            if short and self._done:
                words[-1] += f" of about {cost / self._done * self._total:.4g}"
        return ", ".join(words)


def _many(count: int) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return str(count)
