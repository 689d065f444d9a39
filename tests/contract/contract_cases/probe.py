"""What a wrong value is, and what a good error says: shared by the contract tests of every folder.

A `Case` builds one public class or calls one public loader with values that are right. The tests then replace one
value at a time by a wrong one and expect an error of ours that names the argument, the rule, the value and a remedy.
"""

import importlib
import math
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Case", "case_files", "faults_of_text", "wrong_values"]


@dataclass(frozen=True)
class Case:
    """One public constructor or loader.

    Args:
        build: The class or function.
        good: Makes the arguments of one right call, all of them, anew for every call; gets an empty folder of its own.
        meant: Values that look wrong and are not, by argument, as the labels of `wrong_values`: a zero that means
            "off", an empty list that means "none". Here a reader finds which edges are meant.
        named: Word that the error holds in place of the argument's name, by argument: `values` becomes `channel
            "joint"`, say, where a list of many is wrong in one place.
        left: Arguments that the case does not give and does not try, with the reason.
    """

    build: Callable[..., Any]
    good: Callable[[Path], dict[str, Any]]
    meant: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.build.__module__}.{self.build.__qualname__}"


def case_files() -> list[ModuleType]:
    """The files beside this one, each with `CASES` and `WITHOUT_CASE` of a folder of the package."""
    names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if module.name != "probe"]
    return [importlib.import_module(f"contract_cases.{name}") for name in names]


def wrong_values(good: Any) -> Iterator[tuple[str, Any]]:
    """Label and value of what an argument like `good` may not have unless its case says that it is meant."""
    match good:
        case bool() | None:
            return
        case int():
            yield from (("-1", -1), ("0", 0))
        case float():
            yield from (("nan", math.nan), ("inf", math.inf), ("-inf", -math.inf))
        case str():
            yield "empty", ""
        case Path():
            yield "missing", good.with_name("no such place")
        case Tensor():
            yield "one axis more", good[None]
            yield "wrong dtype", good.to(torch.int64 if good.is_floating_point() else torch.complex64)
            if good.ndim:
                yield "empty", good[:0]
            if good.is_floating_point() and good.numel():
                yield "nan", torch.full_like(good, math.nan)
        case np.ndarray():
            yield "one axis more", good[None]
            if good.ndim:
                yield "empty", good[:0]
            if np.issubdtype(good.dtype, np.floating) and good.size:
                yield "nan", np.full_like(good, math.nan)
        case Mapping() if good:
            yield "empty", {}
        case list() | tuple() if good and type(good) in (list, tuple):
            yield "empty", type(good)()
            if all(type(value) is float for value in good):
                yield "nan", type(good)(math.nan for _ in good)


def faults_of_text(text: str, word: str) -> list[str]:
    """What an error text lacks of `<argument> must <rule>, got <value>. <what to do>`."""
    faults = [] if word in text else [f"does not name {word}"]
    sentences = [part for part in text.replace("\n", " ").split(". ") if part.strip()]
    return faults if len(sentences) > 1 else [*faults, "does not say what to do"]
