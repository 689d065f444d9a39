"""How well captions say what reference captions say, dimension by dimension; the verb `vla-kit data rubric`."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from vla_kit.data.captions import (
    DIMENSIONS,
    Annotator,
    AnnotatorMessage,
    CaptionLog,
    FineCaption,
    PromptFolder,
    ask,
    usable_captions,
)
from vla_kit.data.whole_file import write_whole
from vla_kit.errors import DataError
from vla_kit.metrics import wilson_interval

__all__ = ["CaptionScore", "caption_overlap", "judge_caption", "score_captions", "write_rubric"]

_STEPS: Final = "steps"
_KEYS: Final = (*DIMENSIONS, _STEPS)
_SMALL: Final = frozenset({"a", "an", "the"})
_DRAWS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionScore:
    """Score of one dimension over episodes, with its 95 % interval.

    Args:
        dimension: A key of `DIMENSIONS`, or `steps`.
        score: Mean over the episodes, in [0, 1].
        low: Lower end of the interval.
        high: Upper end of the interval.
        episodes: Episodes that were compared.

    Examples:
        >>> CaptionScore(dimension="actor", score=0.5, low=0.2, high=0.8, episodes=9).score
        0.5
    """

    dimension: str
    score: float
    low: float
    high: float
    episodes: int


def caption_overlap(candidate: FineCaption, reference: FineCaption) -> dict[str, float]:
    """Shared words of two captions per dimension, and of their steps: F1 of the words, counted, without articles.

    It needs no model and is always the same, and it knows no meaning: "left" and "right" differ by one word, "cup" and
    "mug" share none. Use it to see that something changed; use the judge to see what is right.

    Args:
        candidate: Caption to score.
        reference: Caption that a person has checked.

    Returns:
        Dimension, and `steps`, -> share in [0, 1].

    Examples:
        >>> step = {"number": 1, "text": "Lift it.", "contact": "palm", "space": "above", "motion": "up"}
        >>> def made(actor):
        ...     dimensions = {**dict.fromkeys(DIMENSIONS, "not visible"), "actor": actor}
        ...     return FineCaption.parse({"dimensions": dimensions, "steps": [step]})
        >>> round(caption_overlap(made("the left arm"), made("a right arm"))["actor"], 2)
        0.5
    """
    texts = [_texts(candidate), _texts(reference)]
    return {key: _f1(texts[0][key], texts[1][key]) for key in _KEYS}


def judge_caption(
    annotator: Annotator,
    candidate: FineCaption,
    reference: FineCaption,
    *,
    prompts: PromptFolder | None = None,
    attempts: int = 3,
) -> dict[str, bool]:
    """Ask a model for each dimension whether a caption says what the reference says.

    Args:
        annotator: The model; it sees no picture.
        candidate: Caption to score.
        reference: Caption that a person has checked.
        prompts: What it is asked; the prompts of vla-kit where None.
        attempts: Answers at most.

    Returns:
        Dimension, and `steps`, -> whether it is the same.

    Raises:
        DataError: If no answer can be used.
        AnnotatorError: If the model cannot be asked.
    """
    prompts = prompts or PromptFolder()
    question = prompts.fill(
        "judge_caption",
        candidate=json.dumps(candidate.plain(), ensure_ascii=False),
        reference=json.dumps(reference.plain(), ensure_ascii=False),
        dimensions="\n".join(_KEYS),
    )
    schema = {
        "type": "object",
        "properties": {key: {"type": "boolean"} for key in _KEYS},
        "required": list(_KEYS),
        "additionalProperties": False,
    }
    messages = [AnnotatorMessage("user", (question,))]
    return ask(annotator, messages, _read_verdicts, schema=schema, prompts=prompts, attempts=attempts)[0]


def score_captions(
    candidates: Mapping[int, FineCaption],
    references: Mapping[int, FineCaption],
    *,
    annotator: Annotator | None = None,
    prompts: PromptFolder | None = None,
) -> list[CaptionScore]:
    """Score captions against references, over the episodes that have both.

    Args:
        candidates: Episode -> caption to score.
        references: Episode -> caption that a person has checked.
        annotator: Model that judges; shared words are counted where None.
        prompts: What it is asked; the prompts of vla-kit where None.

    Returns:
        A score per dimension and one of the steps. The interval of shared words is a bootstrap over the episodes (2000
        draws, always the same), that of the judge Wilson's.

    Raises:
        DataError: If no episode has both.
        AnnotatorError: If the model cannot be asked.

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.5, speaks of a rubric and does not print it; this one is ours.
    """
    both = sorted(candidates.keys() & references.keys())
    if not both:
        raise DataError("references must be of episodes that have captions, got none in common. Name other folders.")
    if annotator is None:
        shares = [caption_overlap(candidates[index], references[index]) for index in both]
        table = np.array([[share[key] for key in _KEYS] for share in shares])
        draws = np.random.default_rng(0).integers(len(both), size=(_DRAWS, len(both)))
        low, high = np.quantile(table[draws].mean(axis=1), [0.025, 0.975], axis=0)
    else:
        verdicts = [judge_caption(annotator, candidates[index], references[index], prompts=prompts) for index in both]
        table = np.array([[verdict[key] for key in _KEYS] for verdict in verdicts], dtype=np.float64)
        low, high = np.array([wilson_interval(int(right), len(both)) for right in table.sum(axis=0)]).T
    return [
        CaptionScore(
            dimension=key,
            score=float(table[:, place].mean()),
            low=float(low[place]),
            high=float(high[place]),
            episodes=len(both),
        )
        for place, key in enumerate(_KEYS)
    ]


def write_rubric(
    candidates: str,
    references: str,
    annotator: Annotator | None = None,
    prompts: str | None = None,
    output: str | None = None,
) -> list[CaptionScore]:
    """Score captions against reference captions, dimension by dimension.

    Args:
        candidates: Folder of `vla-kit data caption`, whose captions are scored as they were written.
        references: Folder of captions of the same data set, of which those count that a person accepted or corrected.
        annotator: Model that judges; shared words are counted where None.
        prompts: Folder with prompts of your own, see `vla-kit data prompts`.
        output: JSON file to write the scores to; none where None.

    Returns:
        A score per dimension and one of the steps.

    Raises:
        DataError: If a folder holds no captions, they are of different data sets, or no episode has both.
        AnnotatorError: If the model cannot be asked.
    """
    scored, checked = CaptionLog(candidates), CaptionLog(references)
    if scored.header["fingerprint"] != checked.header["fingerprint"]:
        raise DataError(
            f"references must be captions of {scored.header['data_set']}, got those of {checked.header['data_set']}. "
            "Name a folder of the same data set."
        )
    scores = score_captions(
        {index: record.caption for index, record in scored.records.items()},
        usable_captions(checked, reviewed=True),
        annotator=annotator,
        prompts=PromptFolder(prompts),
    )
    if output is not None:
        by = "shared words" if annotator is None else annotator.model
        content = {"by": by, "scores": [asdict(score) for score in scores]}
        write_whole(Path(output), json.dumps(content, indent=2) + "\n")
    table = Table(title=f"Captions of {scored.header['data_set']}, {scores[0].episodes} episodes", title_justify="left")
    for name in ("dimension", "score", "95 % interval"):
        table.add_column(name, justify="left" if name == "dimension" else "right")
    for score in scores:
        table.add_row(score.dimension, f"{score.score:.0%}", f"{score.low:.0%} to {score.high:.0%}")
    Console().print(table)
    return scores


def _texts(caption: FineCaption) -> dict[str, str]:
    plain = caption.plain()
    steps = " ".join(f"{step.text} {step.contact} {step.space} {step.motion}" for step in caption.steps)
    return {**plain["dimensions"], _STEPS: steps}


def _f1(candidate: str, reference: str) -> float:
    counts = [
        Counter(word for word in re.findall(r"\w+", text.lower()) if word not in _SMALL)
        for text in (candidate, reference)
    ]
    total = counts[0].total() + counts[1].total()
    return 2 * (counts[0] & counts[1]).total() / total if total else 1.0


def _read_verdicts(data: object) -> dict[str, bool]:
    found = data if isinstance(data, dict) else {}
    wrong = [key for key in _KEYS if not isinstance(found.get(key), bool)]
    if wrong or set(found) - set(_KEYS):
        raise DataError(f"answer must have true or false for each of {list(_KEYS)} and no other key, got {found}.")
    return {key: found[key] for key in _KEYS}
