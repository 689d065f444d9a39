"""How the public parts of `vla_kit.data.cleaning` are built and read."""

from pathlib import Path

import numpy as np
from contract_cases.probe import Case

from vla_kit.data.cleaning import (
    BlankFrames,
    ColumnRoles,
    ContradictedCount,
    ContradictedGripper,
    ContradictedLanguage,
    Decision,
    Decisions,
    DirectionAgreement,
    ExaminedEpisode,
    Findings,
    Judgement,
    Limit,
    MinimumFrames,
    MissingLanguage,
    StateActionDistance,
    StaticActions,
    SuddenJumps,
    UnreadableColumns,
    UnreadableFrames,
    UnusualLength,
    find_faults,
    find_roles,
    write_cleaning_report,
)
from vla_kit.data.memory_source import MemoryEpisode, MemorySource

ROLES = ColumnRoles(action=("action",), state=("state",))


def make_source() -> MemorySource:
    episode = MemoryEpisode(columns={"action": np.eye(9), "state": np.eye(9)}, instruction="pick")
    return MemorySource([episode] * 2, rate_hz=10)


def make_findings() -> Findings:
    return find_faults(make_source(), [MinimumFrames()], roles=ROLES)


def make_decisions(folder: Path) -> Path:
    make_findings().decisions().write(folder / "decisions.json")
    return folder / "decisions.json"


CASES = [
    Case(BlankFrames, lambda folder: {"threshold": 0.2, "frames": 8, "contrast": 2.0}),
    Case(
        ColumnRoles,
        lambda folder: {"action": ("action",), "state": ("state",), "cameras": ("top",)},
        meant={"state": ("empty",), "cameras": ("empty",)},  # a data set without
    ),
    Case(ContradictedCount, lambda folder: {"threshold": 1.0, "channels": [6]}),
    Case(ContradictedGripper, lambda folder: {"threshold": 0.25, "channels": [6]}),
    Case(ContradictedLanguage, lambda folder: {"threshold": 0.6, "episodes": 5, "opposites": [("open", "close")]}),
    Case(
        Decision,
        lambda folder: {"episode": 3, "rule": "by hand", "value": 0.5, "threshold": 0.2, "keep": True},
        meant={
            "episode": ("0",),
            "value": ("nan", "inf", "-inf"),  # whatever a rule has measured; the file holds null
        },
    ),
    Case(Decisions.read, lambda folder: {"path": make_decisions(folder)}),
    Case(DirectionAgreement, lambda folder: {"threshold": 0.6, "reference": "auto", "steps": 3}),
    Case(
        ExaminedEpisode,
        lambda folder: {"source": make_source(), "index": 1, "roles": ROLES},
        meant={"index": ("0",)},
    ),
    Case(
        find_roles,
        lambda folder: {"source": make_source(), "action": ["action"], "state": ["state"], "cameras": []},
        meant={"state": ("empty",)},
    ),
    Case(
        Judgement,
        lambda folder: {"values": (3.0, 4.0), "note": "Compared channels: 0-2."},
        meant={"values": ("empty",), "note": ("empty",)},  # no episodes; nothing to say
    ),
    Case(Limit, lambda folder: {"threshold": 0.2, "drops": "above"}),
    Case(MinimumFrames, lambda folder: {"threshold": 10.0}),
    Case(
        MissingLanguage,
        lambda folder: {"threshold": 0.0, "placeholders": ["do the task"], "frames": 32},
        meant={"placeholders": ("empty",)},  # a text without any letter counts in any case
    ),
    Case(StateActionDistance, lambda folder: {"threshold": 0.2, "channels": [0, 1]}),
    Case(StaticActions, lambda folder: {"threshold": 1e-3}),
    Case(SuddenJumps, lambda folder: {"of": "action", "threshold": 0.5, "reference": "auto"}),
    Case(UnreadableColumns, lambda folder: {"threshold": 0.0}),
    Case(UnreadableFrames, lambda folder: {"threshold": 0.0, "frames": 8}),
    Case(UnusualLength, lambda folder: {"threshold": 3.5}),
    Case(
        write_cleaning_report,
        lambda folder: {
            "path": folder / "report.html",
            "findings": make_findings(),
            "decisions": make_findings().decisions(),
            "examples": 6,
        },
        meant={"path": ("missing",), "examples": ("0",)},  # a new file; a report without pictures
    ),
]
WITHOUT_CASE: dict[str, str] = {
    "vla_kit.data.cleaning.decisions.Decisions": "made by `Findings.decisions` and `read`, which checks the file",
    "vla_kit.data.cleaning.findings.Findings": "what `find_faults` found",
    "vla_kit.data.cleaning.findings.RuleFindings": "what `find_faults` found by one rule",
    "vla_kit.data.cleaning.presets.PublishedThresholds": "the rows of THRESHOLDS, which are published numbers",
    "vla_kit.data.cleaning.rule.Measurement": "what a rule hands to its own `judge`, in a form of its own",
}
