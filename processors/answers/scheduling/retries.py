"""A budget for calls that are made again, so that they can't make an overload worse.

Retries may be a share of the calls of the last seconds, and a few a second besides, without which
a worker with little traffic could never retry.
"""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryLimits:
    share: float = 0.2
    """Of first calls. What begins again after a part was shown is not counted: nobody waits for
    less than that."""
    per_second: float = 3.0
    window_seconds: float = 10.0


class RetryBudget:
    """Of one worker. Pure: it is told the time."""

    def __init__(self, limits: RetryLimits | None = None) -> None:
        self._limits = limits or RetryLimits()
        self._calls: deque[float] = deque()
        self._retries: deque[float] = deque()

    def called(self, now: float) -> None:
        """A first call was made."""
        self._calls.append(now)
        self._forget(now)

    def take(self, now: float) -> bool:
        """Whether a call may be made again now; it counts if so."""
        self._forget(now)
        limits = self._limits
        allowed = len(self._calls) * limits.share + limits.per_second * limits.window_seconds
        if len(self._retries) >= allowed:
            return False
        self._retries.append(now)
        return True

    def _forget(self, now: float) -> None:
        for each in (self._calls, self._retries):
            while each and each[0] <= now - self._limits.window_seconds:
                each.popleft()
