"""The prompts of annotators: text files that a user can edit."""

import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import Final

from vla_kit.errors import DataError, SettingError

__all__ = ["PROMPT_FIELDS", "PromptFolder"]

PROMPT_FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "watch": ("instruction",),
        "describe": ("instruction", "outline", "dimensions"),
        "other_views": ("instruction", "caption"),
        "repair": ("fault",),
        "judge_caption": ("candidate", "reference", "dimensions"),
        "judge_language": ("instruction",),
    }
)
"""Name of a prompt -> the words that may stand in its file after a `$`."""

_WORD: Final = re.compile(r"\$\{?([A-Za-z_]\w*)")


class PromptFolder:
    """The prompts of vla-kit, or those of a folder in their place.

    A file of the folder replaces the prompt of its name, `watch.txt` that of the first stage; the others stay those of
    vla-kit. `write` puts all of them into a folder for editing. In a file, `$instruction` and the other words of
    `PROMPT_FIELDS` are filled in; a dollar sign is written `$$`.

    Args:
        folder: Folder with edited files; none where None.

    Raises:
        SettingError: If the folder does not exist, or a file has another name or an unknown word after a `$`.

    Examples:
        >>> PromptFolder().fill("repair", fault="it is no JSON").splitlines()[0]
        'Your last answer cannot be used: it is no JSON'

    Source:
        The paper prints none of its prompts; these are ours.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        own = files("vla_kit.data.captions") / "prompts"
        self._texts = {name: (own / f"{name}.txt").read_text(encoding="utf-8") for name in PROMPT_FIELDS}
        if folder is not None:
            self._read(Path(folder))

    @property
    def digest(self) -> str:
        """Short digest of all texts, kept with what was written by them."""
        return hashlib.sha256("\0".join(self._texts.values()).encode()).hexdigest()[:16]

    def fill(self, name: str, **fields: str) -> str:
        """A prompt with its words filled in.

        Args:
            name: Name of the prompt.
            fields: Every word of `PROMPT_FIELDS[name]`.
        """
        return Template(self._texts[name]).substitute(fields)

    def write(self, folder: str | Path) -> None:
        """Write every prompt into a folder, for editing.

        Args:
            folder: Folder; it is made. What stands there is not overwritten.

        Raises:
            DataError: If a file of that name exists, or the folder cannot be written.
        """
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            for name, text in self._texts.items():
                with (Path(folder) / f"{name}.txt").open("x", encoding="utf-8") as file:
                    file.write(text)
        except OSError as error:
            raise DataError(
                f"folder must be one that can be written, got {folder}: {error}. Name a new one."
            ) from error

    def _read(self, folder: Path) -> None:
        if not folder.is_dir():
            raise SettingError(f"prompts must be a folder, got {folder}. `vla-kit data prompts {folder}` writes one.")
        for path in sorted(folder.glob("*.txt")):
            if path.stem not in PROMPT_FIELDS:
                raise SettingError(f"prompts must be named {list(PROMPT_FIELDS)}, got {path}. Rename it.")
            text = path.read_text(encoding="utf-8")
            words, known = set(_WORD.findall(text.replace("$$", ""))), PROMPT_FIELDS[path.stem]
            if unknown := sorted(words - set(known)):
                raise SettingError(
                    f"{path} must have no words after a dollar sign but {list(known)}, got {unknown[0]!r}. Write "
                    "$$ for a dollar sign."
                )
            if not Template(text).is_valid():
                raise SettingError(f"{path} must have a word after each dollar sign, got one alone. Write $$ for it.")
            self._texts[path.stem] = text
