"""What must be loaded before the first picture is drawn.

Software renderers (Mesa) and triton each bring an LLVM, and a process that loads triton after Mesa's ends in a
segmentation fault, at the first `torch.compile` or `import torch._dynamo`. The other order is harmless. So adapters
import this file before their simulator; without triton it does nothing.
"""

from contextlib import suppress

with suppress(Exception):  # whatever keeps triton from loading now keeps it from loading later, too
    import triton  # noqa: F401 (loaded for its order alone)

__all__: list[str] = []
