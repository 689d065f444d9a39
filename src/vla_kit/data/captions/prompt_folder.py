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
        SettingError: If the folder does not exist or holds no prompt, or a file has another name, is empty or no text,
            or has an unknown word after a `$`.

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
            self._read(folder)

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
        begun: list[Path] = []
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            for name, text in self._texts.items():
                path = Path(folder) / f"{name}.txt"
                with path.open("x", encoding="utf-8") as file:
                    begun.append(path)
                    file.write(text)
        except OSError as error:
            for path in begun:
                path.unlink(missing_ok=True)
            raise DataError(
                f"folder must be one that can be written, got {folder}: {error}. Name a new one."
            ) from error

    def _read(self, folder: str | Path) -> None:
        if not folder or not Path(folder).is_dir():
            raise SettingError(
                f"prompts must be a folder, got {str(folder)!r}. `vla-kit data prompts {folder or 'FOLDER'}` writes "
                "one."
            )
        paths = sorted(Path(folder).glob("*.txt"))
        if not paths:
            raise SettingError(
                f"prompts must hold a file among {[f'{name}.txt' for name in PROMPT_FIELDS]}, got none in {folder}. "
                "Leave it out for the prompts of vla-kit."
            )
        for path in paths:
            if path.stem not in PROMPT_FIELDS:
                raise SettingError(f"prompts must be named {list(PROMPT_FIELDS)}, got {path}. Rename it.")
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise SettingError(f"{path} must be a text in UTF-8, got: {error}. Save it as one.") from error
            if not text.strip():
                raise SettingError(f"{path} must hold a prompt, got nothing. Remove it for that of vla-kit.")
            words, known = set(_WORD.findall(text.replace("$$", ""))), PROMPT_FIELDS[path.stem]
            if unknown := sorted(words - set(known)):
                raise SettingError(
                    f"{path} must have no words after a dollar sign but {list(known)}, got {unknown[0]!r}. Write "
                    "$$ for a dollar sign."
                )
            if not Template(text).is_valid():
                raise SettingError(f"{path} must have a word after each dollar sign, got one alone. Write $$ for it.")
            self._texts[path.stem] = text
