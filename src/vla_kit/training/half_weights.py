"""Weights in half precision, data as they are."""

from typing import Any, Literal

from lightning.pytorch.plugins.precision import HalfPrecision

from vla_kit.errors import SettingError

__all__ = ["HalfWeights"]


class HalfWeights(HalfPrecision):
    """Lightning's `bf16-true` and `16-true`, with batches that keep their float32.

    Lightning rounds what a batch holds to the precision of the weights, native actions too, before they are normalised:
    in bfloat16 a position of 1.234 m becomes 1.234375 m, in float16 a joint of 100,000 ticks inf. Our batches refuse
    that. Here they pass unchanged; modules round what they multiply. The command line takes this plugin for
    `--trainer.precision bf16-true`; in Python it goes to `Trainer(plugins=[HalfWeights("bf16-true")])`.

    Args:
        precision: `bf16-true` or `16-true`.

    Raises:
        SettingError: If `precision` is another word.

    Examples:
        >>> HalfWeights("bf16-true").precision
        'bf16-true'
    """

    def __init__(self, precision: Literal["bf16-true", "16-true"] = "16-true") -> None:
        if precision not in ("bf16-true", "16-true"):  # Lightning takes any other word for 16-true
            raise SettingError(f"precision must be 'bf16-true' or '16-true', got {precision!r}. Use 'bf16-true'.")
        super().__init__(precision)

    def convert_input(self, data: Any) -> Any:  # noqa: ANN401 (any batch)
        """Give the batch back."""
        return data
