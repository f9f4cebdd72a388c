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

    def seconds(self, short: float, long: float) -> float:
        """Which of the two this round is for: one in `make test`, or one of `make faults`."""

    def started_conversation(self) -> None:
        """The fault has started a conversation of its own, which the judge should know of."""


Fault = Callable[[World], Awaitable[None]]
