"""Finished episodes on disk, one line each, so that an evaluation that was killed goes on where it stopped."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from vla_kit.data.video_pyav import PyAVDecoder
from vla_kit.data.whole_file import write_atomically
from vla_kit.errors import DataError, SettingError
from vla_kit.evaluation.rollout import EpisodeResult
from vla_kit.evaluation.video import encode_mp4
from vla_kit.metrics import NavigationEpisode

__all__ = ["EpisodeLog"]

_KEYS: Final = frozenset(
    ("task", "trial", "seed", "success", "error", "steps", "embodiment", "instruction", "video", "seconds")
)


class EpisodeLog:
    """Keeps `episodes.jsonl`, `videos/` and, in `evaluation.json`, what the episodes were run with.

    A line is written in one piece as soon as its episode ends. A line that a killed process left unfinished is dropped.
    Episodes that ended in an error are not finished: whoever goes on runs them again.

    Args:
        folder: Folder of one evaluation; it is made.
        settings: What decides how an episode goes, such as the fingerprint of the checkpoint, as JSON values. The tasks
            and the number of episodes are no part of it: more of both may be asked for later.

    Raises:
        SettingError: If the folder holds episodes that were run with other settings, or cannot be one, or the settings
            are no JSON values.
        DataError: If a file of the folder is broken.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> log = EpisodeLog(folder.name, {"temperature": 1.0})
        >>> log.finished("metaworld/reach", "policy")
        {}
        >>> folder.cleanup()
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self._path = self.folder / "episodes.jsonl"
        self._lines: list[dict[str, Any]] = []
        try:
            text = json.dumps(dict(settings), indent=2, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SettingError(
                f"settings must be JSON values, got {dict(settings)} ({error}). Write numbers and texts."
            ) from error
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingError(
                f"folder must be one that can be made, got {folder}: {error}. Choose another."
            ) from error
        if self._path.exists():
            self._compare(json.loads(text))
            self._lines = self._read()
        else:
            write_atomically(self.folder / "evaluation.json", text + "\n")

    def finished(self, task: str, trial: str) -> dict[int, EpisodeResult]:
        """Episodes that need not run again.

        Args:
            task: Name of the task.
            trial: Who acted, and under which change: `policy`, `expert`, ...

        Returns:
            Seed -> result, with its pictures where there is a video.
        """
        return {
            line["seed"]: self._result(line)
            for line in self._lines
            if (line["task"], line["trial"]) == (task, trial) and line["error"] is None
        }

    def seconds(self, trials: str) -> float:
        """Time that was spent on trials whose name begins so [s], errors included."""
        return float(sum(line["seconds"] for line in self._lines if line["trial"].startswith(trials)))

    def append(self, result: EpisodeResult, *, trial: str, seconds: float) -> None:
        """Write an episode, after its video.

        Args:
            result: How it ended.
            trial: Who acted, and under which change.
            seconds: Time since the episode before it ended [s].

        Raises:
            DataError: If the disk is full.
        """
        video = None
        if result.pictures is not None:
            video = f"videos/{result.task}/{trial}-{result.seed}.mp4".replace(":", "-")
            place = self.folder / video
            place.parent.mkdir(parents=True, exist_ok=True)
            unfinished = place.with_suffix(".partial")
            unfinished.write_bytes(encode_mp4(result.pictures))
            unfinished.replace(place)
        line = {
            "task": result.task,
            "trial": trial,
            "seed": result.seed,
            "success": result.success,
            "error": result.error,
            "steps": result.steps,
            "embodiment": result.embodiment,
            "instruction": result.instruction,
            "video": video,
            "seconds": round(seconds, 3),
        }
        if result.navigation is not None:
            line["navigation"] = asdict(result.navigation)
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            text = (json.dumps(line) + "\n").encode()
            if os.write(handle, text) < len(text):  # the next start drops the unfinished line
                raise DataError(f"{self._path} must be writable, got a full disk. Make room for it.")
            os.fsync(handle)
        finally:
            os.close(handle)
        self._lines.append(line)

    def _compare(self, now: Mapping[str, Any]) -> None:
        place = self.folder / "evaluation.json"
        try:
            before = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
        except ValueError as error:  # of JSON, and of UTF-8
            before = error
        if not isinstance(before, dict):
            raise DataError(f"{place} must hold the settings of the evaluation, got {before}. Choose another folder.")
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                raise SettingError(
                    f"output must hold episodes of the same evaluation, got {self.folder}, where {name} was "
                    f"{before.get(name)!r} and is {now.get(name)!r} now. Choose another folder, or remove this one."
                )

    def _read(self) -> list[dict[str, Any]]:
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self._path, whole)
        lines = []
        for number, text in enumerate(content[:whole].splitlines(), start=1):
            try:
                line = json.loads(text)
            except ValueError as error:
                raise DataError(
                    f"line {number} of {self._path} must be JSON, got {text[:80]!r}. Remove the line: its episode runs "
                    "again."
                ) from error
            missing = sorted(_KEYS - set(line)) if isinstance(line, dict) else sorted(_KEYS)
            if missing:
                raise DataError(
                    f"line {number} of {self._path} must have the keys {missing}, got {text[:80]!r}. Remove the line: "
                    "its episode runs again."
                )
            lines.append(line)
        return lines

    def _result(self, line: Mapping[str, Any]) -> EpisodeResult:
        pictures = None
        if line["video"] is not None:
            decoder = PyAVDecoder(self.folder / line["video"])
            pictures = decoder.frames(range(len(decoder))).permute(0, 2, 3, 1).numpy()
        return EpisodeResult(
            task=line["task"],
            embodiment=line["embodiment"],
            seed=line["seed"],
            instruction=line["instruction"],
            success=line["success"],
            steps=line["steps"],
            error=line["error"],
            pictures=pictures,
            navigation=NavigationEpisode(**line["navigation"]) if "navigation" in line else None,
        )
