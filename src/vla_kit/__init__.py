"""vla-kit: reusable parts for vision-language-action models."""

__version__ = "0.1.0"

__all__ = ["__version__"]
