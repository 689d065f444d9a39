"""Multiple choice as free-form answers."""

import re
from collections.abc import Sequence
from typing import Final

from vla_kit.errors import DataError

__all__ = ["free_form"]

_OPTION: Final = re.compile(r"(?:(?<=\s)|^)\(?([A-Z])[).:]\s*(.+?)(?=\s+\(?[A-Z][).:]\s|\s*\n|\s*$)", re.MULTILINE)
_HEADING: Final = re.compile(r"\s*\b(options|choices|answers?)\s*:?\s*$", re.IGNORECASE)
_RULE: Final = re.compile(r"\b(option|choice|letter)", re.IGNORECASE)
_LETTER: Final = re.compile(
    r"^\W*(?:the\s+)?(?:correct\s+)?(?:answer|option|choice)?(?:\s+is)?\W*\(?([A-Z])(?:\W|$)", re.IGNORECASE
)
_AMONG: Final = re.compile(
    r"\b(which|what) of (the following|these|those)\b|\b(following|these) (options|choices|statements|images)", re.I
)
_ABOUT: Final = re.compile(
    r"\b(all|none|neither|both|any) of (the above|these|them)\b|^(both|neither|either) \(?[A-Z]\b", re.IGNORECASE
)


def free_form(question: str, answer: str, *, choices: Sequence[str] | None = None) -> tuple[str, str] | None:
    r"""Take the choices out of a question, and give the chosen one in words.

    Args:
        question: Text with its options as `A. ...`, `(A) ...` or `A) ...`, or without where `choices` are given. A
            request to answer with a letter is left out with them.
        answer: A letter, alone or in a sentence, or the words of a choice.
        choices: The options, where they do not stand in the question.

    Returns:
        Question and answer; None where the question means nothing without its options ("which of the following"), or
        the answer speaks of other options ("none of the above").

    Raises:
        DataError: If there are fewer than two options, or `answer` is none of them.

    Examples:
        >>> free_form("What colour is the light?\nA. red\nB. green\nAnswer with the option's letter.", "B")
        ('What colour is the light?', 'green')
        >>> free_form("Where is the cup?", "(A)", choices=["left of the bowl", "behind the bowl"])
        ('Where is the cup?', 'left of the bowl')
        >>> free_form("Which of the following is true? A. It rains. B. It snows.", "A") is None
        True

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.5: multiple choice is turned into free-form answers. How is ours.
    """
    stem, options = (question.strip(), list(choices)) if choices is not None else _parted(question)
    if len(options) < 2:
        raise DataError(f"question must have at least two options, got {len(options)} in {question!r}. Give choices.")
    chosen = _chosen(answer.strip(), options)
    if _AMONG.search(stem) or _ABOUT.search(chosen):
        return None
    return stem, chosen


def _parted(question: str) -> tuple[str, list[str]]:
    """Question without options, and the options: those whose letters count up from A."""
    found = list(_OPTION.finditer(question))
    first = next((place for place, match in enumerate(found) if match[1] == "A"), len(found))
    options: list[re.Match[str]] = []
    for match in found[first:]:
        if ord(match[1]) == ord("A") + len(options):
            options.append(match)
    if not options:
        return question.strip(), []
    before = _HEADING.sub("", question[: options[0].start()]).strip()
    after = question[options[-1].end() :].strip()
    kept = "" if _RULE.search(after) else after
    return f"{before}\n{kept}".strip(), [match[2].strip() for match in options]


def _chosen(answer: str, options: Sequence[str]) -> str:
    for option in options:
        if answer.rstrip(".").lower() == option.rstrip(".").lower():
            return option
    letter = _LETTER.match(answer)
    place = ord(letter[1].upper()) - ord("A") if letter else len(options)
    if place >= len(options):
        raise DataError(
            f"answer must be a letter or the words of one of {list(options)}, got {answer!r}. Check the record."
        )
    return options[place]
