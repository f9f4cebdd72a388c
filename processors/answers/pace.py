"""How a worker spaces its chunks: each at once while few answers speak, together once many do.

A record that is sent alone costs Kafka, the recorder and the worker itself a turn of their loops.
So under load the answers of a worker send what they have gathered at the same moments, a window
apart, and a window's records cost a turn together.
"""

import math
from collections.abc import Hashable

ANSWERS_AT_ONCE_MAX = 4
"""Whose chunks go in one window: a worker of which no more speak is not under load."""


class Pace:
    """Shared by what a worker holds. Times are of one clock that never goes back, in seconds."""

    def __init__(self, window_seconds: float) -> None:
        self._window = window_seconds
        self._ends = 0.0
        self._spoke: set[Hashable] = set()  # in this window
        self._spoke_before = 0  # how many in the one before it

    def due(self, now: float) -> float:
        """When a chunk that is ready is to be sent: `now`, or within a window."""
        if self._window <= 0:
            return now
        self._turn(now)
        is_loaded = max(self._spoke_before, len(self._spoke)) > ANSWERS_AT_ONCE_MAX
        return self._ends if is_loaded else now

    def sent(self, answer: Hashable, now: float) -> None:
        """A chunk of this answer was sent."""
        if self._window > 0:
            self._turn(now)
            self._spoke.add(answer)

    def _turn(self, now: float) -> None:
        if now < self._ends:
            return
        follows = now < self._ends + self._window
        self._spoke_before = len(self._spoke) if follows else 0
        self._spoke.clear()
        self._ends = (math.floor(now / self._window) + 1) * self._window
