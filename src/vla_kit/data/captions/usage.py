"""What annotation has cost: requests, retries and tokens."""

import math
from dataclasses import asdict, dataclass

from vla_kit.errors import SettingError

__all__ = ["AnnotationUsage", "TokenPrices"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationUsage:
    """Requests and tokens; two of them can be added.

    Args:
        requests: Answered requests.
        retries: Requests that failed on their way and were repeated.
        repairs: Answers that could not be used and were asked for again.
        input_tokens: Tokens read.
        output_tokens: Tokens written.

    Raises:
        SettingError: If one is negative or no whole number.

    Examples:
        >>> AnnotationUsage(requests=1, input_tokens=70) + AnnotationUsage(requests=2, repairs=1)
        AnnotationUsage(requests=3, retries=0, repairs=1, input_tokens=70, output_tokens=0)
    """

    requests: int = 0
    retries: int = 0
    repairs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __post_init__(self) -> None:
        for name, count in asdict(self).items():
            if not isinstance(count, int) or count < 0:
                raise SettingError(f"{name} must be a whole number of at least 0, got {count!r}. Leave it out for 0.")

    def __add__(self, other: "AnnotationUsage") -> "AnnotationUsage":
        mine, its = asdict(self), asdict(other)
        return AnnotationUsage(**{name: mine[name] + its[name] for name in mine})


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrices:
    """What a million tokens cost, in whatever currency.

    Args:
        input: Price of a million tokens read.
        output: Price of a million tokens written.

    Raises:
        SettingError: If a price is negative or not finite.

    Examples:
        >>> TokenPrices(input=0.5, output=3.0).cost(AnnotationUsage(input_tokens=2_000_000, output_tokens=100_000))
        1.3
    """

    input: float
    output: float

    def __post_init__(self) -> None:
        if not (0 <= self.input < math.inf and 0 <= self.output < math.inf):
            raise SettingError(
                f"input and output must be prices of at least 0, got {self.input} and {self.output}. Give what a "
                "million tokens cost."
            )

    def cost(self, usage: AnnotationUsage) -> float:
        """What the tokens cost."""
        return (usage.input_tokens * self.input + usage.output_tokens * self.output) / 1e6
