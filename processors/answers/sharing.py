"""Keeps up how many places of each engine this worker may use: its partitions', less what it has
lent, and what it has borrowed. `scheduling.shares` and `scheduling.lending` decide; this has the
clock.
"""

import asyncio
import time
from collections.abc import Callable, Collection

from events.statements import Statement
from processors.answers.scheduling.lending import Lending, Need
from processors.answers.scheduling.scheduler import Scheduler
from processors.answers.scheduling.shares import share

LOOK_SECONDS = 0.05
"""Between two looks: a place that others want is lent within this, and so is their number said."""
LOOK_AGAIN_SECONDS = 0.5
"""As long as anything is wanted, lent or borrowed: twice as often as a statement is said again."""


class Sharing:
    """Of one worker, on one event loop. `say` puts a statement into the log, whose reader gives it
    to `heard`, as those of all others; `grown` is told when a worker may use more than before."""

    def __init__(
        self,
        worker: str,
        scheduler: Scheduler,
        *,
        partitions: int,
        say: Callable[[Statement], None],
        grown: Callable[[], None],
    ) -> None:
        self._scheduler = scheduler
        self._lending = Lending(worker)
        self._partitions = partitions
        self._owned: frozenset[int] = frozenset()
        self._say = say
        self._grown = grown
        self._look: asyncio.TimerHandle | None = None
        self._look_due = 0.0
        """When, by the loop. (uvloop's handle of what is due at once does not say.)"""
        self._looked_at = float("-inf")
        self._closed = False

    def owns(self, owned: Collection[int]) -> None:
        """The partitions that are this worker's now."""
        self._owned = frozenset(owned)
        self._look_now()

    def heard(self, statement: Statement) -> None:
        self._lending.heard(statement, time.monotonic())
        self.look_soon()

    def look_soon(self) -> None:
        """Something has changed: what waits, or what is under way."""
        self._look_at(self._looked_at + LOOK_SECONDS)

    def seats_changed(self) -> None:
        """Engines have come or gone: one that has come has no places before this."""
        self._look_now()

    def close(self) -> None:
        self._closed = True
        if self._look is not None:
            self._look.cancel()

    def _look_at(self, at: float) -> None:
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        at = max(loop.time(), at)
        if self._look is not None:
            if self._look_due <= at:
                return
            self._look.cancel()
        self._look, self._look_due = loop.call_at(at, self._look_now), at

    def _look_now(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
        now = self._looked_at = time.monotonic()
        seats, wanted = self._scheduler.seats, self._scheduler.wanted()
        needs = {
            name: Need(self._share(name), seat.in_flight, min(wanted[name], seat.limits.bound))
            for name, seat in seats.items()
        }
        statement = self._lending.step(needs, now)
        if statement is not None:
            self._say(statement)
        has_grown = False
        for name, seat in seats.items():
            places = self._lending.places(name, now)
            has_grown = has_grown or places > seat.share
            seat.share = places
        if self._lending.is_busy:
            self._look_at(now + LOOK_AGAIN_SECONDS)
        if has_grown:
            self._grown()

    def _share(self, engine: str) -> int:
        bound = self._scheduler.seats[engine].limits.bound
        return share(engine, bound, self._owned, self._partitions)
