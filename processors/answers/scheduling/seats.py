"""What a worker knows of one engine: what it sent there, and what the engine says of itself.

An engine's own figures are some hundred milliseconds old and count other workers' calls too; the
worker's own count is exact and knows nothing of others. So load is the worse of the two; figures
that are stale count for nothing, and with none at all the own count decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from processors.answers.scheduling.breaker import Breaker, BreakerLimits


@dataclass(frozen=True, slots=True)
class Figures:
    """What an engine said of itself at a moment. None: it does not say."""

    at: float
    queued: int | None = None
    running: int | None = None
    tokens: int | None = None
    """That its batch may still grow to: prompts and what may be said."""


@dataclass(frozen=True, slots=True)
class SeatLimits:
    batch_requests: int = 32
    """That an engine works on at once."""
    ahead_requests: int = 4
    """That may wait in the engine besides, so that its batch is never short of work. Ours wait on
    our side, where bands and tenants count."""
    batch_tokens: int = 0
    """What its batch may hold; 0: not known (TGI does not export it)."""
    figures_seconds_max: float = 3.0
    """Older figures are stale."""

    @property
    def bound(self) -> int:
        return self.batch_requests + self.ahead_requests


@dataclass(frozen=True, slots=True)
class Load:
    """How full an engine is, and from which figures."""

    load: float
    """0: idle; 1: as much as it takes."""
    in_flight: int
    queued: int | None
    running: int | None
    tokens: int | None
    age_seconds: float | None
    """Of the engine's own figures; None: stale or none, the own count decided alone."""


class Seat:
    """One engine, as one worker sees it."""

    def __init__(
        self,
        name: str,
        *,
        limits: SeatLimits | None = None,
        breaker: BreakerLimits | None = None,
    ) -> None:
        self.name = name
        self.limits = limits or SeatLimits()
        self.breaker = Breaker(breaker)
        self.models: Sequence[str] | None = None
        """What it serves. None: it has not said so yet."""
        self.in_flight = 0
        self.share = self.limits.bound
        """How many of the engine's places this worker may use."""
        self.figures = Figures(-inf)
        self._others = 0
        """Calls that are not this worker's, as the figures have it."""

    def began(self) -> None:
        self.in_flight += 1
        self.breaker.began()

    def ended(self) -> None:
        self.in_flight -= 1

    def told(self, figures: Figures, in_flight: int = 0) -> None:
        """`in_flight`: own calls when the engine was asked. Those that ended meanwhile may still be
        in its figures, and are nobody else's."""
        self.figures = figures
        at_it = (figures.running or 0) + (figures.queued or 0)
        self._others = max(0, at_it - max(in_flight, self.in_flight))

    def room(self, now: float) -> int:
        """How many more calls it may be given."""
        if self._fullness(now) >= 1:
            return 0
        free = min(self.share, self.limits.bound - self._others_now(now)) - self.in_flight
        return max(0, min(free, self.breaker.more(self.limits.bound, self.in_flight, now)))

    def load(self, now: float) -> Load:
        load, figures = self._fullness(now), self.figures
        if not self._are_fresh(now):
            return Load(load, self.in_flight, None, None, None, None)
        known = (figures.queued, figures.running, figures.tokens)
        return Load(load, self.in_flight, *known, age_seconds=now - figures.at)

    def _fullness(self, now: float) -> float:
        limits, tokens = self.limits, self.figures.tokens
        load = (self.in_flight + self._others_now(now)) / limits.bound
        if tokens is not None and limits.batch_tokens and self._are_fresh(now):
            load = max(load, tokens / limits.batch_tokens)
        return load

    def _others_now(self, now: float) -> int:
        return self._others if self._others and self._are_fresh(now) else 0

    def _are_fresh(self, now: float) -> bool:
        return now - self.figures.at <= self.limits.figures_seconds_max
