"""First answers of episodes whose captions are not finished, so that a run that was killed asks for them no more."""

import json
from dataclasses import asdict
from pathlib import Path

from vla_kit.data.captions.outline import CaptionOutline
from vla_kit.data.captions.usage import AnnotationUsage
from vla_kit.data.whole_file import write_whole
from vla_kit.errors import DataError

__all__ = ["BegunCaptions"]


class BegunCaptions:
    """A folder with one small file per episode that is begun: what its first stage said, and what that cost.

    The settings are those of the `CaptionLog` beside it. Several threads may ask, each for an episode of its own.

    Args:
        folder: Folder; made with its first file.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> begun = BegunCaptions(folder.name)
        >>> begun.keep(3, CaptionOutline(object="a pear", actions=("grasp it",)), AnnotationUsage(requests=1))
        >>> begun.find(3)[0].object, begun.find(4)
        ('a pear', None)
        >>> begun.forget(3)
        >>> begun.find(3) is None
        True
        >>> folder.cleanup()
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def find(self, episode: int) -> tuple[CaptionOutline, AnnotationUsage] | None:
        """The first answer of an episode, and what it cost; None where it has none.

        Args:
            episode: Its number.

        Raises:
            DataError: If its file is broken.
        """
        path = self._path(episode)
        if not path.exists():
            return None
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            return CaptionOutline.parse(kept["outline"]), AnnotationUsage(**kept["usage"])
        except (ValueError, KeyError, TypeError) as error:  # a DataError is a ValueError
            raise DataError(
                f"{path} must hold the first answer of an episode, got: {error!r}. Remove it: the answer is asked for "
                "again."
            ) from error

    def keep(self, episode: int, outline: CaptionOutline, usage: AnnotationUsage) -> None:
        """Keep the first answer of an episode.

        Args:
            episode: Its number.
            outline: The answer.
            usage: What it cost.

        Raises:
            DataError: If it cannot be written.
        """
        write_whole(self._path(episode), json.dumps({"outline": outline.plain(), "usage": asdict(usage)}) + "\n")

    def forget(self, episode: int) -> None:
        """Remove the first answer of an episode, where it has one.

        Args:
            episode: Its number.
        """
        self._path(episode).unlink(missing_ok=True)

    def _path(self, episode: int) -> Path:
        return self._folder / f"{episode}.json"
