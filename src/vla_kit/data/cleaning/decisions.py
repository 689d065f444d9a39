"""The decision file: which episodes are dropped and why. It is written for readers, and for people to edit."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from vla_kit.data.source import EpisodeSource
from vla_kit.data.whole_file import write_whole
from vla_kit.errors import DataError, SettingError

__all__ = ["Decision", "Decisions"]

_FORMAT: Final = "vla-kit cleaning decisions 1"
_HELP: Final = (
    'An entry with "keep": true stays in training; so does one whose line is deleted. Entries of your own need only '
    '"episode", "rule" and "keep". Cleaning again keeps these edits.'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One episode that one rule, or a person, wants to drop.

    Args:
        episode: Number of the episode in its data set.
        rule: Name of the rule; any word for what a person adds.
        value: What the rule measured, where there is a measurement.
        threshold: Limit of the rule at that time.
        keep: Whether a person overruled the rule.

    Raises:
        SettingError: If `episode` is negative, `rule` is empty, or `threshold` is not finite.

    Examples:
        >>> Decision(episode=3, rule="static_actions", value=0.0, threshold=0.001).keep
        False
    """

    episode: int
    rule: str
    value: float | None = None
    threshold: float | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        if self.episode < 0:
            raise SettingError(f"episode must be at least 0, got {self.episode}. Count the episodes from 0.")
        if not self.rule:
            raise SettingError("rule must be a word, got ''. Say why the episode is dropped.")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise SettingError(f"threshold must be finite, got {self.threshold}. Leave it out where there is none.")


@runtime_checkable
class _Read(Protocol):
    @property
    def source(self) -> EpisodeSource: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """What was decided about a data set. The data themselves are never touched.

    An episode is dropped where at least one of its entries is not kept.

    Args:
        data_set: Name of the data set.
        fingerprint: Fingerprint of the data set.
        location: Where it lay.
        num_episodes: Episodes of the data set.
        rules: Rules of the run, as plain data.
        entries: Decisions.
        found: (rule, episode) of every entry that a rule wrote. It tells an entry that a person deleted from one that
            never was, and one that a person added from one that a rule wrote.

    Examples:
        >>> decisions = Decisions(
        ...     data_set="pick", fingerprint="5d41", location="pick", num_episodes=9,
        ...     entries=(Decision(episode=3, rule="static_actions"), Decision(episode=4, rule="by hand", keep=True)),
        ... )
        >>> decisions.dropped
        frozenset({3})
    """

    data_set: str
    fingerprint: str
    location: str
    num_episodes: int
    rules: tuple[dict[str, Any], ...] = ()
    entries: tuple[Decision, ...] = ()
    found: tuple[tuple[str, int], ...] = ()

    @property
    def dropped(self) -> frozenset[int]:
        """Episodes to leave out."""
        return frozenset(entry.episode for entry in self.entries if not entry.keep)

    def check(self, reader: EpisodeSource | _Read) -> None:
        """Make sure that the decisions are about this data set.

        Args:
            reader: The data set, or a reader of it that has a `source`.

        Raises:
            DataError: If they are of another data set, or the data set has changed since.
        """
        source = reader.source if isinstance(reader, _Read) else reader
        if source.fingerprint != self.fingerprint:
            raise DataError(
                f"decisions must be of {source.location} (fingerprint {source.fingerprint}), got those of "
                f"{self.data_set} at {self.location} (fingerprint {self.fingerprint}). "
                "Run `vla-kit data clean` on this data set, or name the file that belongs to it."
            )

    def with_edits_of(self, earlier: "Decisions") -> "Decisions":
        """These decisions with what a person changed in earlier ones of the same data set.

        Args:
            earlier: Decisions as they were read from the file.

        Returns:
            Decisions in which entries that were kept or deleted are kept, and entries that were added remain.

        Raises:
            DataError: If they are of different data sets.

        Examples:
            >>> run = Decisions(
            ...     data_set="pick", fingerprint="5d41", location="pick", num_episodes=9,
            ...     entries=(Decision(episode=3, rule="static_actions"),), found=(("static_actions", 3),),
            ... )
            >>> run.with_edits_of(replace(run, entries=())).entries[0].keep  # the line was deleted
            True
        """
        if earlier.fingerprint != self.fingerprint:
            raise DataError(
                f"decisions must be of one data set, got {earlier.data_set} at {earlier.location} (fingerprint "
                f"{earlier.fingerprint}) and {self.data_set} at {self.location} (fingerprint {self.fingerprint}). "
                "Write to another folder, or delete the earlier decisions."
            )
        before = {(entry.rule, entry.episode): entry for entry in earlier.entries}
        kept = {key for key, entry in before.items() if entry.keep} | (set(earlier.found) - set(before))
        entries = [replace(entry, keep=(entry.rule, entry.episode) in kept) for entry in self.entries]
        known = {(entry.rule, entry.episode) for entry in entries}
        added = [
            replace(before.get(key, Decision(episode=key[1], rule=key[0])), keep=key in kept)
            for key in sorted((kept | (set(before) - set(earlier.found))) - known)
        ]
        of_rules = {(entry.rule, entry.episode) for entry in added} & set(earlier.found)
        return replace(self, entries=(*entries, *added), found=(*self.found, *sorted(of_rules)))

    @classmethod
    def read(cls, path: str | Path) -> "Decisions":
        """Read a decision file.

        Args:
            path: File.

        Raises:
            DataError: If it is missing or is no decision file, or an entry is broken; the text names the entry.

        Examples:
            >>> Decisions.read("no/such.json")
            Traceback (most recent call last):
            ...
            vla_kit.errors.DataError: path must be a decision file, got no/such.json, which does not exist. ...
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(
                f"path must be a decision file, got {path}, which does not exist. Write it with `vla-kit data clean`."
            ) from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path} must be a decision file, got: {error}. Undo the last edit.") from error
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise DataError(f'{path} must begin with "format": "{_FORMAT}". Write it with `vla-kit data clean`.')
        try:
            count = data["num_episodes"]
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise DataError(f"{path}: num_episodes must be a number of at least 0, got {count!r}. Undo the edit.")
            for rule in data["rules"]:
                if not isinstance(rule, dict) or not isinstance(rule.get("name"), str):
                    raise DataError(f"{path}: rules must have a name each, got {rule!r}. Undo the edit.")
            return cls(
                data_set=str(data["data_set"]),
                fingerprint=str(data["fingerprint"]),
                location=str(data["location"]),
                num_episodes=count,
                rules=tuple(data["rules"]),
                entries=tuple(_entry(path, each, count) for each in data["entries"]),
                found=tuple((rule, int(episode)) for rule, episodes in data["found"].items() for episode in episodes),
            )
        except DataError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"{path} must hold every key of a decision file, got: {error!r}. Undo the edit.") from error

    def write(self, path: str | Path) -> None:
        """Write the decisions, whole or not at all, one entry a line and always in the same order.

        Args:
            path: File to write or replace; folders are made.

        Raises:
            DataError: If the file cannot be written.
        """
        order = {rule["name"]: place for place, rule in enumerate(self.rules)}
        entries = sorted(self.entries, key=lambda each: (each.episode, order.get(each.rule, len(order)), each.rule))
        found: dict[str, list[int]] = {}
        for rule, episode in sorted(self.found, key=lambda each: (order.get(each[0], len(order)), *each)):
            found.setdefault(rule, []).append(episode)
        parts = {
            "format": json.dumps(_FORMAT),
            "help": json.dumps(_HELP),
            "data_set": json.dumps(self.data_set, ensure_ascii=False),
            "fingerprint": json.dumps(self.fingerprint),
            "location": json.dumps(self.location, ensure_ascii=False),
            "num_episodes": json.dumps(self.num_episodes),
            "entries": _lines([json.dumps(_written(entry), ensure_ascii=False) for entry in entries]),
            "rules": _lines([json.dumps(rule, ensure_ascii=False) for rule in self.rules]),
            "found": json.dumps(found, ensure_ascii=False),
        }
        text = "{\n" + ",\n".join(f'  "{key}": {value}' for key, value in parts.items()) + "\n}\n"
        write_whole(path, text)


def _lines(rows: Sequence[str]) -> str:
    return "[\n" + ",\n".join(f"    {row}" for row in rows) + "\n  ]" if rows else "[]"


def _written(entry: Decision) -> dict[str, Any]:
    row: dict[str, Any] = {"episode": entry.episode, "rule": entry.rule}
    if entry.value is not None:
        row["value"] = float(f"{entry.value:.6g}") if math.isfinite(entry.value) else None
    if entry.threshold is not None:
        row["threshold"] = entry.threshold
    return {**row, "keep": entry.keep}


def _entry(path: str | Path, row: object, count: int) -> Decision:
    if not isinstance(row, dict) or not {"episode", "rule"} <= set(row):
        raise DataError(f'{path}: an entry must have "episode" and "rule", got {row}. Undo the edit.')
    unknown = sorted(set(row) - {"episode", "rule", "value", "threshold", "keep"})
    if unknown:
        raise DataError(f"{path}: an entry must have no key {unknown[0]!r}, got {row}. Did you mean keep?")
    episode, keep = row["episode"], row.get("keep", False)
    if isinstance(episode, bool) or not isinstance(episode, int) or not 0 <= episode < count:
        raise DataError(f"{path}: episode must be a number in [0, {count}), got {episode!r}. Correct the entry.")
    if not isinstance(keep, bool):
        raise DataError(f"{path}: keep must be true or false, got {keep!r} in episode {episode}. Correct the entry.")
    for key in ("value", "threshold"):
        number = row.get(key)
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
            raise DataError(f"{path}: {key} must be a number, got {number!r} in episode {episode}. Correct the entry.")
    return Decision(
        episode=episode, rule=str(row["rule"]), value=row.get("value"), threshold=row.get("threshold"), keep=keep
    )
