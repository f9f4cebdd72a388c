"""What a gateway expects of the workers, by what they reported, and whom it refuses for it."""

import time
from dataclasses import replace
from uuid import UUID

import pytest

from events.conversations import AnswerRequested, Band
from events.ids import TenantId, fresh_id
from events.workers import EngineReport, QueueReport, Report, ServedReport
from gateway.fleet.view import REPORT_SECONDS_MAX, FleetView, Outlook
from tests.gateway.fakes import MODEL, TENANT, Bench, calling, served, with_limits
from tests.gateway.test_chat import chat
from tests.gateway.test_conversations import post, started

FLOOD, OTHER = TenantId(fresh_id()), TenantId(fresh_id())
ENGINE = EngineReport("e", (MODEL,), "closed", None, 32, 32, 32, 1.0, None, None, None, None)


def waiting(number: int, tenant: UUID = FLOOD, band: Band = Band.DEFAULT) -> QueueReport:
    return QueueReport(MODEL, band, tenant, number, 100 * number, 1.0)


def report(
    *queues: QueueReport, rate: float = 10.0, worker: str = "w", engine: EngineReport = ENGINE
) -> Report:
    return Report(worker, 8, 0, (engine,), queues, (ServedReport(MODEL, 10.0, 1_000.0, rate),))


def outlook(
    *reports: Report, tenant: TenantId = OTHER, band: Band = Band.DEFAULT, age: float = 0.0
) -> Outlook | None:
    view = FleetView()
    for one in reports:
        view.heard(one, 100.0)
    return view.outlook(MODEL, band, tenant, 100.0 + age)


def test_without_a_fresh_report_nothing_is_expected() -> None:
    assert outlook() is None
    assert outlook(report(waiting(1_000)), age=REPORT_SECONDS_MAX + 1) is None


def test_a_report_counts_for_nothing_once_it_is_stale_whatever_was_asked_before() -> None:
    view = FleetView()
    view.heard(report(waiting(100), worker="a"), 100.0)
    view.heard(report(waiting(100), worker="b"), 103.0)
    seen = [view.outlook(MODEL, Band.DEFAULT, FLOOD, now) for now in (103.0, 106.0, 109.0)]
    assert seen == [Outlook(10.0, None), Outlook(10.0, None), None]
    view.heard(report(waiting(50), worker="b"), 110.0)
    assert view.outlook(MODEL, Band.DEFAULT, FLOOD, 110.0) == Outlook(5.0, None)


def test_an_alias_waits_as_its_model_does() -> None:
    view = FleetView({"alias": MODEL})
    view.heard(report(waiting(1_000)), 100.0)
    assert view.outlook("alias", Band.DEFAULT, FLOOD, 100.0) == Outlook(100.0, None)


def test_a_tenant_with_a_flood_waits_behind_it_and_others_do_not() -> None:
    flood = report(waiting(1_000))
    assert outlook(flood, tenant=FLOOD) == Outlook(100.0, None)
    assert outlook(flood, tenant=OTHER) == Outlook(0.1, None)


def test_all_of_the_bands_before_go_first_whosever_they_are() -> None:
    first = report(waiting(200, band=Band.PRIORITY), waiting(50, band=Band.FLEX))
    assert outlook(first, band=Band.PRIORITY, tenant=FLOOD) == Outlook(20.0, None)
    assert outlook(first, band=Band.DEFAULT) == Outlook(20.0, None)
    assert outlook(first, band=Band.FLEX, tenant=FLOOD) == Outlook(25.0, None)


def test_what_several_workers_have_and_serve_counts_together() -> None:
    both = [report(waiting(100), worker=name, rate=5.0) for name in ("a", "b")]
    assert outlook(*both, tenant=FLOOD) == Outlook(20.0, None)


def test_a_later_report_replaces_the_one_before() -> None:
    assert outlook(report(waiting(100)), report(), tenant=FLOOD) == Outlook(0.0, None)


def test_without_a_rate_no_wait_is_foretold() -> None:
    assert outlook(report(waiting(100), rate=0.0), tenant=FLOOD) == Outlook(None, None)
    assert outlook(report(rate=0.0)) == Outlook(0.0, None), "nobody is before it"


def test_tenants_without_a_line_of_their_own_are_each_waited_for() -> None:
    rest = replace(waiting(30), tenant=None)
    assert outlook(report(waiting(1_000), rest)) == Outlook(3.1, None)


@pytest.mark.parametrize(
    ("engines", "out_seconds"),
    [
        ([replace(ENGINE, out_seconds=7.0)], 7.0),
        ([replace(ENGINE, out_seconds=7.0), replace(ENGINE, name="f")], None),
        ([replace(ENGINE, out_seconds=7.0), replace(ENGINE, name="f", models=None)], None),
        ([replace(ENGINE, out_seconds=7.0), replace(ENGINE, name="f", models=("else",))], 7.0),
        ([replace(ENGINE, out_seconds=7.0), replace(ENGINE, name="f", out_seconds=3.0)], 3.0),
    ],
)
def test_a_model_is_out_when_every_engine_that_may_serve_it_is(
    engines: list[EngineReport], out_seconds: float | None
) -> None:
    found = outlook(replace(report(), engines=tuple(engines)))
    assert found is not None
    assert found.out_seconds == out_seconds


def test_an_engine_is_out_for_as_long_as_every_worker_says_so() -> None:
    out = replace(ENGINE, out_seconds=7.0)
    found = outlook(report(worker="a", engine=out), report(worker="b"))
    assert found is not None
    assert found.out_seconds is None


AHEAD_SECONDS = 60.0
"""So that a report grows old under no test, however slow the machine is."""


def hear(bench: Bench, one: Report) -> None:
    bench.fleet.heard(one, time.monotonic() + AHEAD_SECONDS)


async def test_what_would_wait_too_long_is_refused_before_anything_is_written() -> None:
    limits = with_limits(contended_seconds_max={Band.DEFAULT: 60.0, Band.PRIORITY: 30.0})
    async with served(limits) as bench, calling(bench) as http:
        conversation = await started(http)
        accepted = await chat(http, {"Idempotency-Key": "before"})
        stored = bench.events_stored()
        hear(bench, report(waiting(1_000, TENANT.tenant)))
        refused = await chat(http)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (429, "fleet_contended")
        assert error["type"] == "rate_limit_error"
        assert refused.headers["retry-after"] == "40"
        assert "x-should-retry" not in refused.headers
        problem = (await post(http, conversation)).json()
        assert (problem["status"], problem["code"]) == (429, "fleet_contended")
        assert (problem["wait_seconds"], problem["band"]) == (100.0, "default")
        assert bench.events_stored() == stored
        again = await chat(http, {"Idempotency-Key": "before"})
        assert again.content == accepted.content, "what was accepted stays accepted"
        assert (await chat(http, service_tier="priority")).status_code == 200
        assert (await chat(http, service_tier="flex")).status_code == 200, "it has time"
        hurry = {"X-Request-Timeout": "50"}
        assert (await chat(http, hurry, service_tier="flex")).status_code == 429, "or not"


async def test_a_wait_that_clients_do_not_take_is_no_invitation_to_come_at_once() -> None:
    limits = with_limits(contended_seconds_max={Band.DEFAULT: 60.0})
    async with served(limits) as bench, calling(bench) as http:
        hear(bench, report(waiting(2_000, TENANT.tenant)))
        refused = await chat(http)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "140")
        assert refused.headers["x-should-retry"] == "false"


async def test_a_model_without_an_engine_for_long_is_refused_as_unavailable() -> None:
    async with served(with_limits(no_capacity_seconds_max=120)) as bench, calling(bench) as http:
        hear(bench, report(engine=replace(ENGINE, out_seconds=119.0)))
        assert (await chat(http)).status_code == 200, "it may be back in time"
        hear(bench, report(engine=replace(ENGINE, out_seconds=121.0)))
        refused = await chat(http)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_engine")
        assert refused.headers["retry-after"] == "10"


@pytest.mark.parametrize("said", ["0", "-1", "soon", "1e3", "", "1, 2"])
async def test_a_deadline_that_is_no_number_of_seconds_is_refused(bench: Bench, said: str) -> None:
    async with calling(bench) as http:
        refused = await chat(http, {"X-Request-Timeout": said})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "X-Request-Timeout"


@pytest.mark.parametrize(("said", "seconds"), [("2.5", 2.5), ("100000", 600.0), (None, 600.0)])
async def test_the_clients_deadline_goes_with_the_request(
    bench: Bench, said: str | None, seconds: float
) -> None:
    async with calling(bench) as http:
        headers = {} if said is None else {"X-Request-Timeout": said}
        assert (await chat(http, headers)).status_code == 200
        (asked,) = [
            each.event for each in bench.all_events() if isinstance(each.event, AnswerRequested)
        ]
        assert asked.deadline_seconds == seconds
