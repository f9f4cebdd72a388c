"""What a worker says of itself is what its scheduler knows."""

import random
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import workers
from events.codec import Undecodable
from events.conversations import Band
from events.ids import AnswerId, ConversationId, fresh_id
from events.workers import (
    TENANTS_REPORTED_MAX,
    EngineReport,
    QueueReport,
    Report,
    ServedReport,
    decode_report,
    encode_report,
)
from processors.answers import reports
from processors.answers.reports import SERVED_SECONDS, Served, report_of
from processors.answers.scheduling.scheduler import Outcome, Scheduler
from processors.answers.scheduling.seats import Seat, SeatLimits
from processors.answers.scheduling.work import Queued

LIMITS = SeatLimits(batch_requests=2, ahead_requests=0)


def work(tenant: UUID, *, asked_at: float = 0.0, band: Band = Band.DEFAULT) -> Queued:
    return Queued(
        AnswerId(fresh_id()), ConversationId(fresh_id()), tenant, band, "m", 10, asked_at, 1_000.0
    )


def a_scheduler() -> Scheduler:
    scheduler = Scheduler(random.Random(1))
    scheduler.seats["e"] = Seat("e", limits=LIMITS)
    scheduler.seats["e"].models = ("m",)
    return scheduler


def report(scheduler: Scheduler, now: float, served: Served | None = None) -> Report:
    return report_of("w", 8, 3, scheduler, served or Served(), now)


def test_it_says_what_is_under_way_and_what_waits() -> None:
    scheduler, tenant = a_scheduler(), fresh_id()
    for at in range(5):
        scheduler.queue.put(work(tenant, asked_at=float(at)), float(at))
    for _ in range(2):
        assert scheduler.next(10.0) is not None
    said = report(scheduler, 10.0)
    (engine,) = said.engines
    assert (said.worker, said.partitions, said.held) == ("w", 8, 3)
    assert (engine.in_flight, engine.bound, engine.places, engine.load) == (2, 2, 2, 1.0)
    assert (engine.models, engine.breaker, engine.out_seconds) == (("m",), "closed", None)
    assert said.queues == (QueueReport("m", Band.DEFAULT, tenant, 3, 30, 8.0),)


def test_an_engine_that_fails_again_and_again_is_out_since_its_first_opening() -> None:
    scheduler = a_scheduler()
    breaker = scheduler.seats["e"].breaker
    breaker.failed(0.0, 1.0, away=True)
    out = report(scheduler, 4.0).engines[0]
    assert (out.out_seconds, out.places) == (3.0, 0)
    breaker.probed(healthy=True, now=5.0)
    assert report(scheduler, 5.0).engines[0].out_seconds is None, "it may take a call"
    breaker.failed(5.0, 6.0)
    assert report(scheduler, 7.0).engines[0].out_seconds == 6.0
    breaker.probed(healthy=True, now=20.0)
    breaker.succeeded(21.0)
    breaker.failed(22.0, 23.0, away=True)
    assert report(scheduler, 24.0).engines[0].out_seconds == 1.0


def test_tenants_beyond_the_bound_are_one_line_without_a_name() -> None:
    scheduler = a_scheduler()
    tenants = [fresh_id() for _ in range(TENANTS_REPORTED_MAX + 3)]
    for number, tenant in enumerate(tenants):
        for _ in range(1 + (number < TENANTS_REPORTED_MAX)):
            scheduler.queue.put(work(tenant, asked_at=float(number)), 30.0)
    lines = report(scheduler, 30.0).queues
    by_tenant = {line.tenant: line for line in lines}
    assert list(by_tenant) == [None, *tenants[:TENANTS_REPORTED_MAX]], "most waiting first"
    others = by_tenant[None]
    assert (others.waiting, others.tokens) == (3, 30)
    assert others.waited_seconds == 30.0 - TENANTS_REPORTED_MAX


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (workers, reports):
        for name in ("ENGINES", "MODELS", "QUEUES", "SERVED"):
            monkeypatch.setattr(module, f"{name}_REPORTED_MAX", 2)


@pytest.mark.usefixtures("small")
def test_a_report_is_bounded_and_says_what_matters_most() -> None:
    scheduler, served = a_scheduler(), Served()
    for number in range(1, 4):
        name = f"m{number}"
        scheduler.seats[name] = Seat(name, limits=LIMITS)
        scheduler.seats[name].models = ("m1", "m2", "m3")
        tenant = fresh_id()
        for _ in range(number):
            scheduler.queue.put(replace(work(tenant), model=name), 0.0)
            served.finished(name, 10, 1.0, 0.0)
    said = report(scheduler, 0.0, served)
    assert [engine.name for engine in said.engines] == ["e", "m1"]
    assert said.engines[1].models == ("m1", "m2")
    assert [(line.model, line.waiting) for line in said.queues] == [("m3", 3), ("m2", 2)]
    assert [line.model for line in said.served] == ["m3", "m2"]
    assert decode_report(encode_report(said)) == said


ENGINE = EngineReport("e", ("m",), "closed", None, 1, 1, 0, 0.0, None, None, None, None)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "more",
    [
        {"engines": (ENGINE,) * 3},
        {"engines": (replace(ENGINE, models=("a", "b", "c")),)},
        {"queues": (QueueReport("m", Band.FLEX, None, 1, 1, 1.0),) * 3},
        {"served": (ServedReport("m", 1.0, 1.0, 1.0),) * 3},
    ],
)
def test_a_report_that_lists_more_than_a_worker_says_is_none(more: dict[str, Any]) -> None:
    with pytest.raises(Undecodable, match="3 entries, 2 may be"):
        decode_report(encode_report(replace(Report("w", 1, 2), **more)))


def test_the_rate_is_of_the_last_seconds() -> None:
    served = Served()
    for second in range(30):
        served.finished("m", 100, 1.0, float(second))
    assert served.report(29.0 + SERVED_SECONDS) == (
        ServedReport("m", 1 / SERVED_SECONDS, 100 / SERVED_SECONDS, 0.0),
    )
    assert served.report(40.0 + SERVED_SECONDS) == ()


def test_what_is_expected_is_right_from_the_first_moments_of_a_burst() -> None:
    served = Served()
    for at in (0.0, 3.0, 6.0):  # a little before it
        served.finished("m", 100, 1.5, at)
    for _ in range(6):
        served.began("m")
    (before,) = served.report(7.0)
    assert (before.requests_per_second, before.expected_per_second) == (0.3, 4.0)
    for _ in range(6):
        served.over("m")
        served.finished("m", 100, 1.5, 8.5)
    (after,) = served.report(8.5)
    assert after.expected_per_second == 0, "nothing is under way"


def test_answers_that_take_longer_than_the_rate_looks_back_are_expected_all_the_same() -> None:
    served = Served()
    for _ in range(30):
        served.began("m")
    assert served.report(0.0) == (), "nobody knows how long one takes"
    served.over("m")
    served.finished("m", 100, 58.0, 58.0)
    (later,) = served.report(58.0 + 2 * SERVED_SECONDS)
    assert (later.requests_per_second, later.expected_per_second) == (0.0, 0.5)


def test_only_what_was_finished_counts_as_served() -> None:
    scheduler = a_scheduler()
    scheduler.queue.put(work(fresh_id()), 0.0)
    dispatch = scheduler.next(0.0)
    assert dispatch is not None
    scheduler.ended(dispatch, Outcome.LET_GO, 0, 1.0)
    assert report(scheduler, 1.0).engines[0].in_flight == 0


NAMES = st.text(max_size=8)
NUMBERS = st.integers(0, 2**31)
SECONDS = st.floats(0, 1e6)
REPORTS = st.builds(
    Report,
    NAMES,
    NUMBERS,
    NUMBERS,
    st.lists(
        st.builds(
            EngineReport,
            NAMES,
            st.none() | st.lists(NAMES, max_size=2).map(tuple),
            NAMES,
            st.none() | SECONDS,
            NUMBERS,
            NUMBERS,
            NUMBERS,
            SECONDS,
            st.none() | NUMBERS,
            st.none() | NUMBERS,
            st.none() | NUMBERS,
            st.none() | SECONDS,
        ),
        max_size=2,
    ).map(tuple),
    st.lists(
        st.builds(
            QueueReport,
            NAMES,
            st.sampled_from(Band),
            st.none() | st.uuids(),
            NUMBERS,
            NUMBERS,
            SECONDS,
        ),
        max_size=2,
    ).map(tuple),
    st.lists(st.builds(ServedReport, NAMES, SECONDS, SECONDS, SECONDS), max_size=2).map(tuple),
)


@given(REPORTS)
def test_a_report_is_read_as_it_was_made(report: Report) -> None:
    assert decode_report(encode_report(report)) == report


def test_what_a_later_version_says_besides_is_passed_over() -> None:
    report = Report("w", 1, 2)
    later = encode_report(report).replace(b'"held"', b'"mood":"fine","held"')
    assert decode_report(later) == report


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"[]",
        b"{}",
        encode_report(Report("w", 1, 2)).replace(b'"queues":[]', b'"queues":[{"band":"none"}]'),
        encode_report(
            replace(Report("w", 1, 2), served=(ServedReport("m", 1.0, 1.0, 1.0),))
        ).replace(b"1.0", b"null"),
    ],
)
def test_what_is_no_report_is_said_to_be_none(value: bytes | None) -> None:
    with pytest.raises(Undecodable):
        decode_report(value)
