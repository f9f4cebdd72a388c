"""The scheduler in front of a fleet, in virtual time: overload, floods, dead engines."""

import random
from collections.abc import Iterator
from statistics import quantiles

import pytest

from events.conversations import Band
from processors.answers.scheduling.scheduler import Outcome
from processors.answers.scheduling.seats import SeatLimits
from processors.answers.scheduling.work import Why
from tests.processors.answers.scheduling.made import tenant, work
from tests.processors.answers.scheduling.simulation import (
    PROMPT_TOKENS,
    TOKEN_SECONDS,
    Arrival,
    Engine,
    run,
)

FLOOD, NORMAL, URGENT = 1, 2, 3
SAYS = 50
PLACES = SeatLimits(batch_requests=28, ahead_requests=4)


def capacity(engines: int) -> float:
    """Requests a second."""
    return engines * PLACES.bound / (SAYS * TOKEN_SECONDS)


def arrivals(
    who: int, per_second: float, seconds: float, *, band: Band = Band.DEFAULT, seed: int = 1
) -> Iterator[Arrival]:
    chance, at = random.Random(seed * 1_000 + who), 0.0
    while (at := at + chance.expovariate(per_second)) < seconds:
        says = chance.randint(SAYS // 2, SAYS + SAYS // 2)
        one = work(
            tenant=who, band=band, asked_at=at, deadline=at + 600, tokens=PROMPT_TOKENS + 2 * SAYS
        )
        yield Arrival(at, one, says)


@pytest.mark.slow
def test_a_hundred_thousand_requests_are_each_answered_or_ended_once():
    engines = [Engine(f"e{number}") for number in range(8)]
    rate = capacity(8) * 1.05
    seconds = 100_000 / rate
    coming = [
        each
        for who in range(1, 21)
        for each in arrivals(who, rate / 20, seconds, band=list(Band)[who % 3])
    ]
    found = run(coming, engines, seats=PLACES)
    ends = [*found.answered, *found.given_up, *found.refused]
    assert len(coming) > 98_000
    assert sorted(ends) == sorted(each.work.answer for each in coming)
    assert found.too_late == 0
    assert found.queued_most <= 2_048
    assert max(engine.over for engine in engines) <= PLACES.bound


def test_at_five_times_the_capacity_priority_goes_through_and_the_normal_tenant_has_its_share():
    engines = [Engine(f"e{number}") for number in range(4)]
    full = capacity(4)
    flood = list(arrivals(FLOOD, full * 4.3, 60))
    normal = list(arrivals(NORMAL, full * 0.6, 60))
    urgent = list(arrivals(URGENT, full * 0.1, 60, band=Band.PRIORITY))
    # What the gateway does: no tenant may fill the queue alone.
    flood = admitted(flood, 512, full * 0.5)
    found = run([*flood, *normal, *urgent], engines, seats=PLACES, until=60)
    ended_by_then = [each for each in urgent if each.at < 55]
    answered = sum(each.work.answer in found.answered for each in ended_by_then)
    assert answered >= 0.95 * len(ended_by_then)
    fair = (found.used[tenant(FLOOD)] + found.used[tenant(NORMAL)]) / 2
    assert abs(found.used[tenant(NORMAL)] - fair) <= 0.1 * fair
    assert found.too_late == 0


def test_urgent_requests_hardly_wait_while_a_thousand_of_flex_do():
    engines = [Engine("e")]
    waiting = [
        Arrival(0.0, work(band=Band.FLEX, deadline=1e9, tokens=100), SAYS) for _ in range(1_000)
    ]
    urgent = list(arrivals(URGENT, capacity(1) * 0.2, 30, band=Band.PRIORITY))
    found = run([*waiting, *urgent], engines, seats=PLACES, until=30)
    median = quantiles(found.waits[tenant(URGENT)])[1]
    assert median < 2 * SAYS * TOKEN_SECONDS / PLACES.bound, "until the next place comes free"


def test_an_engine_that_fails_in_milliseconds_does_not_draw_the_traffic():
    def dead(_now: float) -> Outcome:
        return Outcome.FAILED

    hole, well = Engine("hole", dead), Engine("well")
    coming = list(arrivals(NORMAL, capacity(1) * 0.8, 60))
    found = run(coming, [hole, well], seats=PLACES)
    assert len(found.answered) == len(coming)
    assert hole.calls < 0.01 * len(coming)


def test_an_engine_that_comes_back_is_used_again_and_not_run_over():
    def away(now: float) -> Outcome | None:
        return Outcome.AWAY if 10 < now < 25 else None

    back, well = Engine("back", away), Engine("well")
    coming = list(arrivals(NORMAL, capacity(2) * 0.4, 60))
    found = run(coming, [back, well], seats=PLACES)
    assert len(found.answered) == len(coming)
    assert 0.3 < back.calls / len(coming) < 0.5


def test_without_any_engine_accepted_work_waits_for_one_and_is_ended_with_the_reason():
    def away(now: float) -> Outcome | None:
        return Outcome.AWAY if now < 100 else None

    coming = list(arrivals(NORMAL, 2, 100))
    found = run(coming, [Engine("e", away)], seats=PLACES)
    assert len(found.answered) + len(found.given_up) == len(coming)
    assert set(found.given_up.values()) <= {Why.NO_CAPACITY, Why.CONTENDED}
    late = [each for each in coming if each.at > 50]
    assert all(each.work.answer in found.answered for each in late)


def admitted(coming: list[Arrival], burst: int, per_second: float) -> list[Arrival]:
    """What a bound on a tenant's unanswered requests lets through: a burst, then its pace."""
    let, tokens, last = [], float(burst), 0.0
    for each in coming:
        tokens = min(burst, tokens + (each.at - last) * per_second)
        last = each.at
        if tokens >= 1:
            tokens -= 1
            let.append(each)
    return let
