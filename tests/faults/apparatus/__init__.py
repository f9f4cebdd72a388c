"""Faults that need more than a signal: each module makes functions that a case can name."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from tests.fixtures.thalweg import RunningThalweg


class World(Protocol):
    """What a fault strikes."""

    @property
    def thalweg(self) -> RunningThalweg: ...

    def note(self, text: str) -> None:
        """For the report of the case."""


Fault = Callable[[World], Awaitable[None]]
