"""A mapping that only grows, in which every version stays what it was.

Deciding is pure, so a state must not change under the hands of whoever holds it; but a state that
copied its mappings at each event would make a conversation of n events cost n^2. Here the versions
share one dict: each sees the keys that were put in before it. Putting a key into the newest version
is one step; putting one into an older version copies what that one sees.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Growing(Mapping[K, V]):
    """Takes a key once: what is in it is never changed or taken out."""

    __slots__ = ("_length", "_shared")

    def __init__(self) -> None:
        self._shared: dict[K, tuple[int, V]] = {}
        """Each value with the number of keys before it."""
        self._length = 0

    def plus(self, key: K, value: V) -> "Growing[K, V]":
        """This mapping with one key more; the same mapping if it has the key already."""
        if key in self:
            return self
        grown: Growing[K, V] = Growing()
        if self._length == len(self._shared) and self._length:
            grown._shared = self._shared
        else:  # also for an empty one: it may be where many begin, and must not gather their keys
            grown._shared = dict(islice(self._shared.items(), self._length))
        grown._shared[key] = (self._length, value)
        grown._length = self._length + 1
        return grown

    def __getitem__(self, key: K) -> V:
        place, value = self._shared[key]
        if place >= self._length:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[K]:
        return islice(self._shared, self._length)

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"Growing({dict(self)!r})"
