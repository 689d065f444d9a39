"""What a person decided about captions: a file beside them, like the decision file of cleaning."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast

from vla_kit.data.captions._fields import whole_number
from vla_kit.data.captions.caption_log import CaptionLog
from vla_kit.data.captions.fine_caption import FineCaption
from vla_kit.data.whole_file import write_whole
from vla_kit.errors import DataError

__all__ = ["CaptionReview", "CaptionReviews", "usable_captions"]

_FORMAT: Final = "vla-kit caption reviews 1"
_HELP: Final = (
    '"verdict" is "accepted", "corrected" or "rejected"; a corrected entry holds the caption to use. An entry counts '
    "while the caption it was made for stands in captions.jsonl. Delete a line to review the episode again."
)
_VERDICTS: Final = ("accepted", "corrected", "rejected")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionReview:
    """What a person decided about one caption.

    Args:
        verdict: Whether the caption is good as it was written, was corrected, or is not to be used.
        digest: Digest of the caption as it was written.
        corrected: The caption to use, where it was corrected.

    Examples:
        >>> CaptionReview(verdict="accepted", digest="5d41").corrected is None
        True
    """

    verdict: Literal["accepted", "corrected", "rejected"]
    digest: str
    corrected: FineCaption | None = None

    @classmethod
    def of(cls, written: FineCaption, edited: FineCaption | None) -> "CaptionReview":
        """The review of a caption that a person read.

        Args:
            written: The caption as it was written.
            edited: The caption as the person left it; None where it is rejected.
        """
        digest = _digest(written)
        if edited is None:
            return cls(verdict="rejected", digest=digest)
        if edited == written:
            return cls(verdict="accepted", digest=digest)
        return cls(verdict="corrected", digest=digest, corrected=edited)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionReviews:
    """Reviews of the captions of a data set, by episode. The captions themselves are never touched.

    Args:
        fingerprint: Fingerprint of the data set.
        entries: Episode -> review.

    Examples:
        >>> CaptionReviews(fingerprint="5d41").entries
        {}
    """

    fingerprint: str
    entries: Mapping[int, CaptionReview] = field(default_factory=dict)

    def of(self, episode: int, written: FineCaption) -> CaptionReview | None:
        """The review of a caption; None where there is none, or the caption was written anew since.

        Args:
            episode: Episode.
            written: Its caption as it was written.
        """
        review = self.entries.get(episode)
        return review if review is not None and review.digest == _digest(written) else None

    @classmethod
    def read(cls, path: str | Path) -> "CaptionReviews":
        """Read a file of reviews.

        Args:
            path: File.

        Raises:
            DataError: If it is missing, is no such file, or an entry is broken; the text names the entry.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"path must be a file of reviews, got {path}: {error}. Run `vla-kit data review`."
            ) from error
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise DataError(f'{path} must begin with "format": "{_FORMAT}", got none. Run `vla-kit data review`.')
        entries: dict[int, CaptionReview] = {}
        try:
            for row in data["entries"]:
                verdict, corrected = row["verdict"], row.get("caption")
                if verdict not in _VERDICTS or (verdict == "corrected") != (corrected is not None):
                    raise DataError(f"{path}: verdict must be one of {list(_VERDICTS)}, got {row}. Correct the entry.")
                try:
                    edited = None if corrected is None else FineCaption.parse(corrected)
                except DataError as error:
                    raise DataError(f"{path}: episode {row['episode']}: {error}") from error
                entries[whole_number(row["episode"])] = CaptionReview(
                    verdict=cast(Literal["accepted", "corrected", "rejected"], verdict),
                    digest=str(row["digest"]),
                    corrected=edited,
                )
            return cls(fingerprint=str(data["fingerprint"]), entries=entries)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} must hold every key of reviews, got: {error!r}. Undo the edit.") from error

    def write(self, path: str | Path) -> None:
        """Write the reviews, whole or not at all, one entry a line.

        Args:
            path: File to write or replace.

        Raises:
            DataError: If the file cannot be written.
        """
        rows = []
        for episode, review in sorted(self.entries.items()):
            row: dict[str, object] = {"episode": episode, "verdict": review.verdict, "digest": review.digest}
            if review.corrected is not None:
                row["caption"] = review.corrected.plain()
            rows.append(f"    {json.dumps(row, ensure_ascii=False)}")
        entries = "[\n" + ",\n".join(rows) + "\n  ]" if rows else "[]"
        head = {"format": _FORMAT, "help": _HELP, "fingerprint": self.fingerprint}
        lines = [f'  "{key}": {json.dumps(value)}' for key, value in head.items()]
        write_whole(path, "{\n" + ",\n".join([*lines, f'  "entries": {entries}']) + "\n}\n")


def usable_captions(log: CaptionLog, *, reviewed: bool) -> dict[int, FineCaption]:
    """Captions as they may be used: never a rejected one, and a corrected one as it was corrected.

    Args:
        log: Folder of captions, with `reviews.json` in it where somebody reviewed.
        reviewed: Whether captions that nobody reviewed are left out.

    Raises:
        DataError: If the reviews are broken, or of another data set.
    """
    path = log.folder / "reviews.json"
    reviews = CaptionReviews.read(path) if path.exists() else CaptionReviews(fingerprint=log.header["fingerprint"])
    if reviews.fingerprint != log.header["fingerprint"]:
        raise DataError(f"{path} must be of the data set of its captions, got another fingerprint. Move it away.")
    usable: dict[int, FineCaption] = {}
    for episode, record in log.records.items():
        review = reviews.of(episode, record.caption)
        if review is None:
            if not reviewed:
                usable[episode] = record.caption
        elif review.verdict != "rejected":
            usable[episode] = review.corrected or record.caption
    return usable


def _digest(caption: FineCaption) -> str:
    return hashlib.sha256(json.dumps(caption.plain(), sort_keys=True).encode()).hexdigest()[:16]
