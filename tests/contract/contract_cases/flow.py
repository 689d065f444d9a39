"""How the public parts of `vla_kit.flow` are built."""

from contract_cases.probe import Case
from vla_kit.flow import BetaTime, Euler, SigmoidNormalTime

CASES = [
    Case(SigmoidNormalTime, lambda folder: {"mean": 0.5, "std": 1.0}),
    Case(BetaTime, lambda folder: {"alpha": 1.0, "beta": 1.5, "scale": 0.999}),
    Case(Euler, lambda folder: {"steps": 4}),
]
WITHOUT_CASE: dict[str, str] = {}
