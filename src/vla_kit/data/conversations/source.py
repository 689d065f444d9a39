"""Conversations of a file, a folder or the hub, through `datasets`: memory-mapped, so that workers share them."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import datasets

from vla_kit.data.conversations._sampling import check_sampling
from vla_kit.data.conversations.pictures import read_picture
from vla_kit.data.conversations.record import Turn, read_record
from vla_kit.data.conversations.sample import ConversationSample
from vla_kit.errors import DataError, SettingError
from vla_kit.protocols import Conversation, Message

__all__ = ["ConversationSource"]

_RECORD: Final = "record"


class ConversationSource:
    """The conversations of a data set, in any form that `read_record` knows.

    A JSON or JSONL file is copied into the cache of `datasets` once, record by record as text, so records may differ in
    form; afterwards only what is asked for is read. Pictures are decoded when their conversation is.

    Args:
        path: JSON or JSONL file; parquet file; folder of `datasets`' `save_to_disk`; or id of the hub, `owner/name`.
        split: Split of a data set that has several.
        name: Name of the data set; that of the file or folder where None.
        pictures_root: Folder that the paths of pictures are relative to; that of `path` where None.
        rate_hz: Frames per second to take of a video.
        max_frames: Most frames of a video.

    Raises:
        DataError: If there is no such data set, it is broken or empty.
        SettingError: If a number is out of range, or `pictures_root` is no folder.

    Examples:
        >>> import tempfile
        >>> from vla_kit.data.conversations import question_record, write_records
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = write_records([question_record([], "2 + 2?", "4")], f"{folder.name}/sums.jsonl")
        >>> source = ConversationSource(f"{folder.name}/sums.jsonl")
        >>> len(source), source[0].conversation.messages[1].content
        (1, ('4',))
        >>> folder.cleanup()
    """

    def __init__(
        self,
        path: str | Path,
        *,
        split: str = "train",
        name: str | None = None,
        pictures_root: str | Path | None = None,
        rate_hz: float = 2.0,
        max_frames: int = 16,
    ) -> None:
        check_sampling(rate_hz=rate_hz, max_frames=max_frames)
        if pictures_root is not None and (not str(pictures_root) or not Path(pictures_root).is_dir()):
            raise SettingError(
                f"pictures_root must be a folder, got {str(pictures_root)!r}. Leave it out for that of {path}."
            )
        self.location = str(path)
        self.name = name or Path(path).stem
        self.rate_hz = rate_hz
        self.max_frames = max_frames
        place = Path(path)
        self.pictures_root = (
            Path(pictures_root) if pictures_root is not None else place if place.is_dir() else place.parent
        )
        self._rows = _open(place, self.location, split)
        if not len(self._rows):
            raise DataError(f"{path} must hold conversations, got none. Drop the set from the mixture.")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> ConversationSample:
        """A conversation with its pictures.

        Raises:
            DataError: If it is in no known form, or a picture is missing or broken.
        """
        where = f"{self.location}, record {index}"
        messages = tuple(
            Message(role=turn.role, content=tuple(self._content(turn, where))) for turn in self.turns(index)
        )
        return ConversationSample(conversation=Conversation(messages=messages), dataset=self.name, index=index)

    def turns(self, index: int) -> tuple[Turn, ...]:
        """A conversation without reading its pictures.

        Raises:
            DataError: If it is in no known form.
        """
        row: Mapping[str, Any] = self._rows[index]
        record = json.loads(row[_RECORD]) if set(row) == {_RECORD} else row
        return read_record(record, where=f"{self.location}, record {index}")

    @property
    def fingerprint(self) -> str:
        """Short digest of the records and of how they are read; pictures in files of their own are not looked at."""
        read = f"{self._rows._fingerprint} {len(self)} {self.rate_hz} {self.max_frames}"
        return hashlib.sha256(read.encode()).hexdigest()[:16]

    def _content(self, turn: Turn, where: str) -> Iterator[Any]:
        for part in turn.content:
            if isinstance(part, str):
                yield part
            else:
                yield read_picture(
                    part, root=self.pictures_root, where=where, rate_hz=self.rate_hz, max_frames=self.max_frames
                )


def _open(place: Path, location: str, split: str) -> Any:  # noqa: ANN401 (`datasets` has no types)
    try:
        if place.suffix in (".json", ".jsonl"):
            with place.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            rows = datasets.Dataset.from_generator(
                _records,
                gen_kwargs={"path": str(place), "digest": digest},
                features=datasets.Features({_RECORD: datasets.Value("string")}),
                fingerprint=digest[:16],
            )
        elif place.suffix == ".parquet":
            rows = datasets.load_dataset("parquet", data_files=str(place), split="train")
        elif place.is_dir():
            rows = datasets.load_from_disk(str(place))
        else:
            rows = datasets.load_dataset(location, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        cause = error.__cause__ or error
        raise DataError(
            "path must be a JSON, JSONL or parquet file, a folder of save_to_disk or an id of the hub, got "
            f"{location}: {str(cause).splitlines()[0]}. Check the path."
        ) from error
    if isinstance(rows, datasets.DatasetDict):
        if split not in rows:
            raise DataError(f"split must be one of {location}, got {split!r}. Choose from {sorted(rows)}.")
        rows = rows[split]
    undecoded = {
        name: datasets.Image(decode=False) for name, kind in rows.features.items() if isinstance(kind, datasets.Image)
    }
    for name, kind in undecoded.items():
        rows = rows.cast_column(name, kind)
    return rows


def _records(path: str, digest: str) -> Iterator[dict[str, str]]:
    """Records as text: those of a list, or one per line; `digest` names the version in the cache."""
    with Path(path).open(encoding="utf-8") as file:
        beginning = file.read(1)
        file.seek(0)
        if beginning == "[":
            records: Iterator[str] = (_listed(record, number) for number, record in enumerate(json.load(file)))
        else:
            records = (_checked(line, number) for number, line in enumerate(file, 1) if line.strip())
        found = False
        for record in records:
            found = True
            yield {_RECORD: record}
    if not found:
        raise ValueError("it holds no conversation")  # an empty table has no split, says `datasets`


def _listed(record: object, number: int) -> str:
    """A record of a list as text, if it is an object."""
    if not isinstance(record, dict):
        raise ValueError(f"record {number}: it must be an object, got {str(record)[:80]}")
    return json.dumps(record, ensure_ascii=False)


def _checked(line: str, number: int) -> str:
    """A line, if it is a JSON object: a broken one is found here, not in the middle of a run."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"line {number}: it must be an object, got {line.strip()[:80]}")
    return line
