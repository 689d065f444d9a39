"""How the public parts of `vla_kit.flow` are built."""

from contract_cases.probe import Case

from vla_kit.flow import (
    BetaTime,
    CleanPrefix,
    Euler,
    GuidedPrefix,
    HardPrefix,
    Heun,
    LearnedNoiseEuler,
    Midpoint,
    SigmoidNormalTime,
    StochasticEuler,
    UniformTime,
)

CASES = [
    Case(BetaTime, lambda folder: {"alpha": 1.0, "beta": 1.5, "scale": 0.999}),
    Case(CleanPrefix, lambda folder: {}),
    Case(Euler, lambda folder: {"steps": 4}),
    Case(GuidedPrefix, lambda folder: {"max_guidance": 5.0}),
    Case(HardPrefix, lambda folder: {}),
    Case(Heun, lambda folder: {"steps": 4}),
    Case(LearnedNoiseEuler, lambda folder: {"steps": 4, "stochastic_steps": "all"}),
    Case(Midpoint, lambda folder: {"steps": 4}),
    Case(SigmoidNormalTime, lambda folder: {"mean": 0.5, "std": 1.0}),
    Case(StochasticEuler, lambda folder: {"steps": 4, "noise_level": 0.5, "stochastic_steps": "one"}),
    Case(UniformTime, lambda folder: {}),
]
WITHOUT_CASE: dict[str, str] = {
    "vla_kit.flow.stochastic_path.StochasticPath": "what a stochastic sampler remembers of its steps",
    "vla_kit.flow.transitions.GaussianTransitions": "what a stochastic sampler says of a path",
}
