"""Many rows as the parameters of one statement: an array for each column, taken apart by unnest.

A statement is complete before the server begins with it. In the midst of a COPY or of a pipeline it
would wait for us, and no timeout of Postgres ends that (`transaction_timeout` neither): a process
that is stopped there would keep its locks.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TypeVar

PIECE_CHARACTERS_MAX = 16 * 1024 * 1024
"""An array has less than 1 GB, and a batch of the longest texts may have more."""

T = TypeVar("T")


def columns(rows: Collection[Sequence[object]]) -> list[list[object]]:
    """An array for each column."""
    return [list(column) for column in zip(*rows, strict=True)]


def pieces(things: Iterable[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """What goes into one statement each: never nothing, nor much beyond PIECE_CHARACTERS_MAX."""
    piece: list[T] = []
    size = 0
    for one in things:
        piece.append(one)
        size += size_of(one)
        if size >= PIECE_CHARACTERS_MAX:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
