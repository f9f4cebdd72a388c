"""Whether an engine is to be trusted with a call, by how its calls ended. Pure.

Closed, it lets everything through. Open, nothing, for a pause that doubles. Then half open: once
the engine says that it is well, one call; if that brings its finish reason, it is closed again,
and what it may hold at once grows from one call to its bound.
"""

from dataclasses import dataclass
from enum import Enum
from math import inf

DOUBLINGS_MAX = 8
"""Any more are beyond every `pause_seconds_max`."""


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    failures_in_a_row_max: int = 3
    """A dead shard fails each request in milliseconds: three are enough to see it."""
    outcomes_kept: int = 20
    failed_share_max: float = 0.5
    """Of the last `outcomes_kept`, when so many are known."""
    pause_seconds: float = 0.5
    pause_seconds_max: float = 15.0
    slow_start_seconds: float = 5.0
    """From one call at once to the bound."""
    full_pause_seconds: float = 0.1
    """An engine that said that it is full; doubles with each time in a row."""
    full_pause_seconds_max: float = 2.0


class BreakerState(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Of one engine. `calls_max` before a call, `began`, and how it went."""

    def __init__(self, limits: BreakerLimits | None = None) -> None:
        self._limits = limits or BreakerLimits()
        self._state = BreakerState.CLOSED
        self._in_a_row = 0
        self._last: list[bool] = []
        """Of the last outcomes, whether it failed; the newest is the last."""
        self._failed_at = -inf
        """The last failure that counted."""
        self._pause_ends = -inf
        self._openings = 0
        """In a row, without a success between them."""
        self._probing = False
        self._closed_at = -inf
        self._lets_since = -inf
        self.out_since = -inf
        """When it was opened for the first time after its last success."""
        self._full = 0
        self._full_until = -inf

    def starts(self, now: float) -> None:
        """It has come into the fleet just now: its caches are cold."""
        self._closed_at = self._lets_since = now

    @property
    def state(self) -> BreakerState:
        return self._state

    @property
    def lets_since(self) -> float | None:
        """Since when it lets calls through; None: it is open."""
        return None if self._state is BreakerState.OPEN else self._lets_since

    def calls_max(self, bound: int, now: float) -> int:
        """How many calls it may hold at once, of at most `bound`."""
        if self._state is BreakerState.OPEN or now < self._full_until:
            return 0
        if self._state is BreakerState.HALF_OPEN:
            return 0 if self._probing else 1
        risen = (now - self._closed_at) / self._limits.slow_start_seconds
        return bound if risen >= 1 else max(1, int(bound * risen))

    def more(self, bound: int, in_flight: int, now: float) -> int:
        """How many calls may begin now. A probe waits for none from before the pause."""
        before = 0 if self._state is BreakerState.HALF_OPEN else in_flight
        return self.calls_max(bound, now) - before

    def probe_due(self, now: float) -> bool:
        """It is open, and its pause is over: its health is to be asked."""
        return self._state is BreakerState.OPEN and now >= self._pause_ends

    def probed(self, *, healthy: bool, now: float) -> None:
        """What the engine said of its health after a pause."""
        if self._state is not BreakerState.OPEN:
            return
        if healthy:
            self._state, self._probing = BreakerState.HALF_OPEN, False
            self._lets_since = now
        else:
            self._open(now)

    def began(self) -> None:
        self._probing = self._state is BreakerState.HALF_OPEN

    def let_go(self, began_at: float = inf) -> None:
        """The call was given up by us, or was refused for what it asks: no word on the engine."""
        if began_at >= self._lets_since:
            self._probing = False

    def succeeded(self, now: float) -> None:
        """A finish reason came."""
        self._note(failed=False)
        self._in_a_row = self._full = self._openings = 0
        if self._state is not BreakerState.CLOSED:
            if self._state is BreakerState.OPEN:
                self._lets_since = now
            self._state, self._probing, self._closed_at = BreakerState.CLOSED, False, now

    def failed(self, began_at: float, now: float, *, away: bool = False) -> None:
        """It broke, hung, or ended without a reason. `away`: it could not even be reached.

        Calls that were under way at the last failure that counted may have failed with it, as
        mates of its batch do: they are no failure of their own.
        """
        if began_at <= self._failed_at:
            return
        self._failed_at = now
        self._in_a_row += 1
        self._note(failed=True)
        limits, last = self._limits, self._last
        is_bad = len(last) >= limits.outcomes_kept and sum(last) > len(last) * (
            limits.failed_share_max
        )
        if (
            away
            or is_bad
            or self._state is BreakerState.HALF_OPEN
            or self._in_a_row >= limits.failures_in_a_row_max
        ):
            self._open(now)

    def full(self, now: float) -> None:
        """It has no room: no failure, but nothing more for a moment."""
        limits = self._limits
        pause = _doubled(limits.full_pause_seconds, self._full, limits.full_pause_seconds_max)
        self._full += 1
        self._full_until = now + pause
        self._probing = False

    def _note(self, *, failed: bool) -> None:
        self._last = [*self._last[1 - self._limits.outcomes_kept :], failed]

    def _open(self, now: float) -> None:
        limits = self._limits
        if self._state is BreakerState.OPEN and now < self._pause_ends:
            return
        pause = _doubled(limits.pause_seconds, self._openings, limits.pause_seconds_max)
        if not self._openings:
            self.out_since = now
        self._openings += 1
        self._state, self._probing = BreakerState.OPEN, False
        self._pause_ends = now + pause
        self._last.clear()
        self._in_a_row = 0


def _doubled(seconds: float, times: int, seconds_max: float) -> float:
    return min(seconds_max, seconds * 2.0 ** min(times, DOUBLINGS_MAX))
