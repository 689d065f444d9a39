"""Captioned episodes on disk, one line each, so that a run that was killed goes on where it stopped."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Final

from vla_kit.data.captions.caption_record import CaptionRecord
from vla_kit.data.source import EpisodeSource
from vla_kit.data.whole_file import write_whole
from vla_kit.errors import DataError, SettingError

__all__ = ["CaptionLog"]

_FORMAT: Final = "vla-kit captions 1"
_HEADER: Final = {"data_set": str, "fingerprint": str, "location": str, "num_episodes": int, "settings": dict}


class CaptionLog:
    """A folder of captions: `captions.jsonl`, and in `captions.json` of what data set and by what settings.

    A line is written in one piece as soon as its episode is captioned. A line that a killed process left unfinished is
    not read, and removed by the next `begin`. `begin` makes a folder, the constructor opens one.

    Args:
        folder: Folder of captions.

    Raises:
        DataError: If the folder holds no captions, or a line in the middle of the file is broken or of an episode that
            is not in the data set.

    Examples:
        >>> CaptionLog("no/such/folder")
        Traceback (most recent call last):
        ...
        vla_kit.errors.DataError: folder must hold captions, got no/such/folder. Write them with `vla-kit data caption`.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._path = self.folder / "captions.jsonl"
        self._lock = Lock()
        try:
            header = json.loads((self.folder / "captions.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            header = None
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise DataError(f"folder must hold captions, got {folder}. Write them with `vla-kit data caption`.")
        for name, kind in _HEADER.items():
            if not isinstance(header.get(name), kind):
                raise DataError(
                    f"{self.folder / 'captions.json'} must hold {name}, got {header.get(name)!r}. Undo the edit."
                )
        self.header: dict[str, Any] = header
        self._records = self._read()

    @classmethod
    def begin(cls, folder: str | Path, source: EpisodeSource, settings: Mapping[str, Any]) -> "CaptionLog":
        """Open a folder for writing, and make it where there is none.

        Args:
            folder: Folder of captions.
            source: The data set.
            settings: What decides how an episode is captioned, as JSON values. Which episodes is no part of it.

        Raises:
            SettingError: If the folder holds captions of other settings.
            DataError: If it holds captions of another data set, is broken or cannot be written.
        """
        path = Path(folder) / "captions.json"
        if not path.exists():
            header = {
                "format": _FORMAT,
                "data_set": source.name,
                "fingerprint": source.fingerprint,
                "location": source.location,
                "num_episodes": len(source.lengths),
                "settings": dict(settings),
            }
            write_whole(path, json.dumps(header, indent=2, ensure_ascii=False) + "\n")
        log = cls(folder)
        log.check(source)
        if log._path.exists():
            content = log._path.read_bytes()
            os.truncate(log._path, content.rfind(b"\n") + 1)
        before, now = log.header["settings"], json.loads(json.dumps(dict(settings)))
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                raise SettingError(
                    f"output must hold captions of the same settings, got {folder}, where {name} was "
                    f"{before.get(name)!r} and is {now.get(name)!r} now. Choose another folder, or remove this one."
                )
        return log

    @property
    def records(self) -> dict[int, CaptionRecord]:
        """Episode -> its captioned record, in the order of the episodes."""
        with self._lock:
            return dict(sorted(self._records.items()))

    def check(self, source: EpisodeSource) -> None:
        """Make sure that the captions are of this data set.

        Raises:
            DataError: If they are of another data set, or the data set has changed since.
        """
        if source.fingerprint != self.header["fingerprint"]:
            raise DataError(
                f"captions must be of {source.location} (fingerprint {source.fingerprint}), got those of "
                f"{self.header['data_set']} at {self.header['location']} (fingerprint {self.header['fingerprint']}). "
                "Name the folder that belongs to it."
            )

    def append(self, record: CaptionRecord) -> None:
        """Write a record, safe from a crash when this returns.

        Raises:
            DataError: If it cannot be written.
        """
        line = (json.dumps(record.plain(), ensure_ascii=False) + "\n").encode()
        with self._lock:
            try:
                handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
                try:
                    size = os.fstat(handle).st_size
                    if os.write(handle, line) < len(line):
                        os.ftruncate(handle, size)
                        raise OSError("the disk is full")
                    os.fsync(handle)
                finally:
                    os.close(handle)
            except OSError as error:
                raise DataError(f"{self._path} must be writable, got: {error}. Make room for it.") from error
            self._records[record.episode] = record

    def _read(self) -> dict[int, CaptionRecord]:
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = content.rfind(b"\n") + 1
        records: dict[int, CaptionRecord] = {}
        for number, text in enumerate(content[:whole].splitlines(), start=1):
            try:
                record = CaptionRecord.parse(json.loads(text))
            except ValueError as error:  # a DataError is one
                raise DataError(
                    f"line {number} of {self._path} must be a caption, got: {str(error).rstrip('.')}. Remove the line: "
                    "its episode is captioned again."
                ) from error
            if record.episode >= self.header["num_episodes"]:
                raise DataError(
                    f"line {number} of {self._path} must be of an episode in [0, {self.header['num_episodes']}), got "
                    f"{record.episode}. Remove the line."
                )
            records[record.episode] = record
        return records
