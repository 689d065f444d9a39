"""What `vla-kit data stats` does: statistics of a data set as a table, and as JSON."""

from collections.abc import Mapping, Sequence
from itertools import islice
from json import dumps
from pathlib import Path
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vla_kit.data.jobs import choose_executor
from vla_kit.data.readers.open import open_source
from vla_kit.data.source import ColumnInfo, EpisodeSource
from vla_kit.data.statistics.cache import StatisticsCache
from vla_kit.data.statistics.columns import ColumnSummary, summarize_columns
from vla_kit.data.statistics.feature import RANK_ERROR
from vla_kit.data.statistics.published import Mismatch, compare_published
from vla_kit.data.whole_file import write_whole
from vla_kit.errors import SettingError

__all__ = ["write_statistics"]

_WIDTH: Final = 110  # where no terminal says how wide it is
_SHOWN: Final = 100  # channels of a column; embeddings have hundreds


def write_statistics(
    root: str,
    json: str | None = None,
    columns: list[str] | None = None,
    decisions: str | None = None,
    workers: int = 1,
    ray: str | None = None,
) -> None:
    """Compute the statistics of every column of a data set from its frames: print them, and write them as JSON.

    The JSON holds, per column, count, min, max, mean, std, q01 and q99, and which channels are `binary`. Statistics
    that the data set publishes are compared and, where wrong, named; they are never used. The result is kept beside
    the data, see `StatisticsCache`.

    Args:
        root: Folder, file or hub id of a data set of any format.
        json: File to write.
        columns: Columns to count; all where not given.
        decisions: File of `vla-kit data clean`, whose dropped episodes do not count.
        workers: Processes that count; 1 counts in this one.
        ray: Address of a Ray cluster to run on, `local` to start one here; none where not given.

    Raises:
        DataError: If the data set is missing or broken, or `json` cannot be written.
        SettingError: If `json` is a folder or `workers` is below 1.
    """
    if json is not None and Path(json).is_dir():
        raise SettingError(f"json must be a file, got the folder {json}. Give a name such as {json}/stats.json.")
    source = open_source(root)
    episodes = _kept(source, decisions)
    with choose_executor(workers=workers, ray=ray) as executor:
        summaries = summarize_columns(
            source, columns=columns, episodes=episodes, cache=StatisticsCache(), executor=executor
        )
        stats = {key: summary.stats for key, summary in summaries.items()}
        mismatches = compare_published(source, stats, episodes=episodes, executor=executor)
    if json is not None:
        entries = {key: summary.to_dict() for key, summary in summaries.items()}
        write_whole(json, dumps(entries, indent=2) + "\n")
    _show(source, summaries, mismatches)


def _kept(source: EpisodeSource, decisions: str | None) -> list[int] | None:
    if decisions is None:
        return None
    from vla_kit.data.cleaning.decisions import Decisions

    read = Decisions.read(decisions)
    read.check(source)
    return [index for index in range(len(source.lengths)) if index not in read.dropped]


def _show(source: EpisodeSource, summaries: Mapping[str, ColumnSummary], mismatches: Sequence[Mismatch]) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
    for key, summary in summaries.items():
        console.print(_table(key, summary, source.columns[key]))
    binary = {key: list(summary.binary) for key, summary in summaries.items() if summary.binary}
    if binary:
        listed = "; ".join(f"{key} {channels}" for key, channels in binary.items())
        console.print(f"binary: {escape(listed)}. Channels of two values, such as a gripper: do not normalise them.")
    if not all(summary.exact for summary in summaries.values()):
        console.print(f"q01 and q99 marked ~ are estimates with a rank error below {RANK_ERROR:g}.")
    for mismatch in mismatches:
        console.print(f"[bold yellow]warning[/]: {escape(str(mismatch))}")
    if mismatches:
        console.print("What the data set publishes was not used. The numbers above are those of its frames.")


def _table(key: str, summary: ColumnSummary, info: ColumnInfo) -> Table:
    stats = summary.stats
    about = "" if summary.exact else "~"
    table = Table(title=f"{escape(key)}, {stats.count:,} frames", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("channel")
    for heading in ("min", f"{about}q01", "mean", "std", f"{about}q99", "max"):
        table.add_column(heading, justify="right")
    table.add_column("")
    parts = (stats.minimum, stats.q01, stats.mean, stats.std, stats.q99, stats.maximum)
    rows = zip(*(part.tolist() for part in parts if part is not None), strict=True)
    for channel, row in enumerate(islice(rows, _SHOWN)):
        name = str(channel) if info.names is None else f"{channel} {info.names[channel]}"
        note = "constant" if row[0] == row[-1] else "binary" if channel in summary.binary else ""
        table.add_row(escape(name), *(f"{value:.5g}" for value in row), note)
    if stats.size > _SHOWN:
        table.add_row(f"and {stats.size - _SHOWN} more")
    return table
