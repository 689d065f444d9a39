"""The one thing that cleaning, statistics and conversion ask of whatever runs them."""

import reprlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

__all__ = ["Executor", "SerialExecutor"]

Block = TypeVar("Block")
Result = TypeVar("Result")


@runtime_checkable
class Executor(Protocol):
    """Runs one function over many blocks of work.

    A job is a function of the module level (or `functools.partial` of one) from a block, such as the numbers of some
    episodes, to a result that is small and can be merged. Function, blocks and results are pickled where they cross
    processes; a function opens its data set itself or is handed a source, which survives pickling.
    """

    def map(self, function: Callable[[Block], Result], blocks: Sequence[Block]) -> Iterator[Result]:
        """Results of `function` in the order of `blocks`, as they are ready.

        Args:
            function: The work of one block.
            blocks: What it is called with, one at a time.

        Raises:
            Exception: What `function` raised, with a note that names the block. The blocks after it are given up.
        """
        ...


class SerialExecutor:
    """Runs one block after the other in this process; satisfies `Executor`. The default everywhere.

    Examples:
        >>> list(SerialExecutor().map(sum, [[1, 2], [3, 4]]))
        [3, 7]
    """

    def map(self, function: Callable[[Block], Result], blocks: Sequence[Block]) -> Iterator[Result]:
        """Results of `function` in the order of `blocks`; each is computed when it is asked for."""
        for position, block in enumerate(blocks):
            try:
                result = function(block)
            except Exception as error:
                name_block(error, blocks, position)
                raise
            yield result


def name_block(error: BaseException, blocks: Sequence[object], position: int) -> None:
    """Add a note to an error that says in which block it arose.

    Args:
        error: The error; its note appears below its text.
        blocks: All blocks.
        position: Which of them failed.

    Examples:
        >>> error = ValueError("no such file")
        >>> name_block(error, [[0, 1], [2, 3]], 1)
        >>> error.__notes__
        ['in block 1 of 2: [2, 3]']
    """
    error.add_note(f"in block {position} of {len(blocks)}: {reprlib.repr(blocks[position])}")
