"""One file per format; each imports its own library, so name it in full."""

__all__: list[str] = []
