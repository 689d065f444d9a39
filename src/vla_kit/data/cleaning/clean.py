"""The verb `vla-kit data clean`."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from vla_kit.data.cleaning.column_roles import find_roles
from vla_kit.data.cleaning.decisions import Decisions
from vla_kit.data.cleaning.findings import Findings, find_faults
from vla_kit.data.cleaning.presets import default_rules
from vla_kit.data.cleaning.report import write_cleaning_report
from vla_kit.data.cleaning.rule import CleaningRule
from vla_kit.data.jobs import choose_executor
from vla_kit.data.readers.open import open_source
from vla_kit.errors import SettingError

__all__ = ["clean"]


def clean(
    root: str,
    output: str | None = None,
    rules: list[CleaningRule] | None = None,
    preset: str | None = None,
    action: list[str] | None = None,
    state: list[str] | None = None,
    cameras: list[str] | None = None,
    workers: int = 1,
    ray: str | None = None,
    examples: int = 6,
) -> Decisions:
    """Find the episodes of a data set that training should leave out.

    Nothing in the data set is changed. Two files are written: `decisions.json`, which readers honour and a person may
    edit, and `report.html`, which shows what was dropped and what nearly was. Cleaning again keeps the edits.

    Args:
        root: Folder, file or hub id of a data set in any format that vla-kit reads.
        output: Folder for the two files; `cleaning/<name of the data set>` in the working directory where None.
        rules: Rules with their thresholds, in place of the default ones.
        preset: Use the published thresholds of this data set, such as `bridge` or `droid`; not together with `rules`.
        action: Keys of the action columns; found by their names where None.
        state: Keys of the state columns; found by their names where None, and `[]` for none.
        cameras: Keys of the cameras to look at; all where None, and `[]` for none.
        workers: Processes.
        ray: Address of a Ray cluster to run on, `local` to start one here; none where None.
        examples: Episodes to show per rule in the report.

    Returns:
        The decisions as they were written.

    Raises:
        SettingError: If `preset` is unknown or given beside `rules`, or `examples` is negative.
        DataError: If the data set cannot be opened, a key is unknown, the output cannot be written, or the output
            holds decisions about another data set.
    """
    if rules is not None and preset is not None:
        raise SettingError(f"preset must be left out where rules are given, got {preset!r}. Give one of them.")
    if examples < 0:
        raise SettingError(f"examples must be at least 0, got {examples}. Use 6.")
    chosen = default_rules(preset) if rules is None else rules
    source = open_source(root)
    folder = Path(output) if output is not None else Path("cleaning") / re.sub(r"[^\w.-]+", "_", source.name)
    path = folder / "decisions.json"
    earlier = Decisions.read(path) if path.exists() else None
    if earlier is not None:
        earlier.check(source)
    roles = find_roles(source, action=action, state=state, cameras=cameras)
    console = Console(stderr=True)

    def watch(results: Iterable[Any], count: int) -> Iterable[Any]:
        return track(results, total=count, description=f"Cleaning {source.name}", console=console, transient=True)

    with choose_executor(workers=workers, ray=ray) as executor:
        findings = find_faults(source, chosen, roles=roles, executor=executor, watch=watch)
    decisions = findings.decisions()
    if earlier is not None:
        decisions = decisions.with_edits_of(earlier)
    decisions.write(path)
    write_cleaning_report(folder / "report.html", findings, decisions, examples=examples)
    _print(findings, decisions, folder)
    return decisions


def _print(findings: Findings, decisions: Decisions, folder: Path) -> None:
    console = Console()
    table = Table(title=f"Cleaning of {findings.source.name}", title_justify="left")
    for name, justify in (("rule", "left"), ("stays", "left"), ("dropped", "right"), ("nearly", "right")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    table.add_column("not measured", justify="right")
    for each in findings.rules:
        limit = each.rule.limit
        table.add_row(
            each.rule.name,
            f"{'<=' if limit.drops == 'above' else '>='} {limit.threshold:.4g}",
            str(len(each.dropped)),
            str(len(each.nearly_dropped)),
            str(sum(value is None for value in each.judgement.values)),
        )
    console.print(table)
    lengths, rate = findings.lengths, findings.source.rate_hz
    kept = lengths.sum() - lengths[sorted(decisions.dropped)].sum()
    amount = f"{kept / rate / 3600:.3g} of {lengths.sum() / rate / 3600:.3g} h" if rate else f"{kept} frames"
    console.print(
        f"Kept {len(lengths) - len(decisions.dropped)} of {len(lengths)} episodes ({amount}). Actions: "
        f"{', '.join(findings.roles.action)}; state: {', '.join(findings.roles.state) or 'none'}.",
        highlight=False,
    )
    for each in findings.rules:
        if each.judgement.note:
            console.print(f"{each.rule.name}: {each.judgement.note}", style="dim", highlight=False)
    console.print(f"Decisions: {folder / 'decisions.json'}, report: {folder / 'report.html'}", highlight=False)
