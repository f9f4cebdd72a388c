"""Puts the dispatcher's decisions into words, with the time of day, and has them counted."""

import time
from collections.abc import Callable

from events.decisions import (
    BreakerChanged,
    CallEnded,
    Candidate,
    Decision,
    EngineAppeared,
    EngineGone,
    WasDispatched,
    WasGivenUp,
    WasQueued,
)
from events.ids import AnswerId
from processors.answers.meter import NOTHING, UNMEASURED, Meter, Spoken, left_without
from processors.answers.scheduling.breaker import BreakerState
from processors.answers.scheduling.scheduler import Dispatch, Outcome
from processors.answers.scheduling.seats import Load, Seat
from processors.answers.scheduling.work import Queued, Why

Say = Callable[[Decision], None]


def _nobody(_: Decision) -> None:
    pass


class Decisions:
    """`say` must not wait: what it can't pass on is lost."""

    def __init__(self, say: Say | None = None, meter: Meter = UNMEASURED) -> None:
        self._say = say or _nobody
        self._meter = meter

    def queued(self, work: Queued, others: int) -> None:
        self._say(
            WasQueued(
                now_ms(),
                work.answer,
                work.band.value,
                work.model,
                work.tokens,
                round(work.deadline - time.monotonic(), 3),
                work.begun,
                others,
                work.tenant,
            )
        )

    def dispatched(self, dispatch: Dispatch) -> None:
        self._meter.dispatched(dispatch)
        work = dispatch.work
        self._say(
            WasDispatched(
                now_ms(),
                work.answer,
                dispatch.seat.name,
                dispatch.choice.because.value,
                round(dispatch.waited_seconds, 4),
                tuple(_candidate(name, load) for name, load in dispatch.choice.looked_at),
                work.attempt,
                work.said_tokens,
                dispatch.charge.level.name.lower(),
                dispatch.charge.counter,
            )
        )

    def ended(
        self,
        dispatch: Dispatch,
        outcome: Outcome,
        used: int,
        error: str,
        spoken: Spoken = NOTHING,
    ) -> None:
        self._meter.ended(dispatch, outcome, spoken, error)
        seconds = round(time.monotonic() - dispatch.began_at, 4)
        answer, engine = dispatch.work.answer, dispatch.seat.name
        self._say(CallEnded(now_ms(), answer, engine, outcome.value, used, seconds, error))

    def given_up(self, answer: AnswerId, reason: Why | Exception) -> None:
        self._meter.given_up(left_without(reason))
        why = reason.value if isinstance(reason, Why) else str(reason)
        self._say(WasGivenUp(now_ms(), answer, why))

    def breaker(self, seat: Seat, before: BreakerState) -> None:
        """Says what has become of it, if something has."""
        after = seat.breaker.state
        if after is not before:
            self._say(BreakerChanged(now_ms(), seat.name, before.value, after.value))

    def appeared(self, engine: str) -> None:
        self._say(EngineAppeared(now_ms(), engine))

    def gone(self, engine: str, in_flight: int) -> None:
        self._say(EngineGone(now_ms(), engine, in_flight))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _candidate(name: str, load: Load) -> Candidate:
    age = None if load.age_seconds is None else round(load.age_seconds, 3)
    return Candidate(
        name, round(load.load, 3), load.in_flight, load.queued, load.running, load.tokens, age
    )
