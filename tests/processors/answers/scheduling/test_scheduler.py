"""What the scheduler makes of a call's end, and what it remembers."""

import random

import pytest

from processors.answers.scheduling import scheduler as module
from processors.answers.scheduling.choice import Because
from processors.answers.scheduling.scheduler import Dispatch, Outcome, Scheduler
from processors.answers.scheduling.seats import Seat, SeatLimits
from processors.answers.scheduling.work import Queued
from tests.processors.answers.scheduling.made import tenant, work


def scheduler_of(*names: str, places: int = 8) -> Scheduler:
    made = Scheduler(random.Random(1))
    for name in names:
        seat = made.seats[name] = Seat(name, limits=SeatLimits(places, ahead_requests=0))
        seat.models = ("m",)
    return made


def dispatched(scheduler: Scheduler, *works: Queued) -> Dispatch:
    for each in works:
        assert scheduler.queue.put(each, 0.0)
    dispatch = scheduler.next(0.0)
    assert dispatch is not None
    return dispatch


def test_who_spoke_last_is_remembered_of_the_newest_conversations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PREFIXES_KEPT_MAX", 2)
    scheduler, turns = scheduler_of("a", "b"), [work() for _ in range(3)]
    for each in turns:
        scheduler.ended(dispatched(scheduler, each), Outcome.FINISHED, 10, 0.0)
    because = [dispatched(scheduler, each).choice.because for each in turns]
    assert because == [Because.LESS_LOADED, Because.PREFIX, Because.PREFIX]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_however_a_call_ends_its_charge_is_corrected_and_its_place_is_free(
    outcome: Outcome,
) -> None:
    scheduler = scheduler_of("a", "b")
    first = dispatched(scheduler, *(work(tenant=number, tokens=1_000) for number in (1, 2, 1, 2)))
    second = dispatched(scheduler)
    scheduler.ended(second, Outcome.FINISHED, 10, 0.0)
    scheduler.ended(first, outcome, 0, 0.0)
    assert sum(seat.in_flight for seat in scheduler.seats.values()) == 0
    assert (first.work.tenant, second.work.tenant) == (tenant(1), tenant(2))
    assert dispatched(scheduler).work.tenant == tenant(1), "who was served less"


def test_an_outage_begins_when_the_last_engine_fails_or_leaves() -> None:
    scheduler, needs = scheduler_of("a", "b"), work().needs
    assert scheduler.out_since(needs) == float("-inf")
    for at, name in ((5.0, "a"), (7.0, "b")):
        scheduler.seats[name].breaker.failed(at - 1, at, away=True)
    assert scheduler.served_since(needs) is None
    assert scheduler.out_since(needs) == 7.0
    scheduler.lately.ceased("b", scheduler.seats.pop("b").models or (), 9.0)
    assert scheduler.out_since(needs) == 9.0
    assert scheduler.out_since(("other", frozenset())) == float("-inf")
