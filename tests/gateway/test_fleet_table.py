"""What an operator and a tenant see of the fleet."""

import time
from dataclasses import replace

from events.conversations import Band
from events.ids import fresh_id
from gateway.fleet.table import OPERATOR, Whose, table_of
from tests.gateway.fakes import TENANT, Bench, calling
from tests.gateway.test_fleet import ENGINE, FLOOD, OTHER, report, waiting


def test_an_engine_that_several_workers_use_is_one_line_with_all_their_calls() -> None:
    stale = replace(ENGINE, in_flight=3, load=0.2, queued=9, age_seconds=4.0, models=None)
    fresh = replace(ENGINE, in_flight=4, load=0.5, queued=1, age_seconds=0.1, breaker="open")
    both = [(0.0, report(worker="a", engine=stale)), (0.0, report(worker="b", engine=fresh))]
    (line,) = table_of(both, OPERATOR)["engines"]
    assert (line["in_flight"], line["bound"], line["load"]) == (7, 32, 0.5)
    assert (line["queued"], line["age_seconds"]) == (1, 0.1), "the latest figures"
    assert (line["breaker"], line["models"]) == ("open", list(ENGINE.models or ()))


def test_an_engine_is_out_only_if_every_worker_says_so() -> None:
    out = replace(ENGINE, out_seconds=7.0)
    one_says = [(0.0, report(worker="a", engine=out)), (0.0, report(worker="b"))]
    assert table_of(one_says, OPERATOR)["engines"][0]["out_seconds"] is None
    longer = report(worker="b", engine=replace(out, out_seconds=9.0))
    assert table_of([one_says[0], (0.0, longer)], OPERATOR)["engines"][0]["out_seconds"] == 7.0


def test_queues_add_up_over_workers_and_stand_in_the_order_of_the_bands() -> None:
    urgent = waiting(2, OTHER, Band.PRIORITY)
    two = [(0.0, report(waiting(5), worker="a")), (0.0, report(waiting(6), urgent, worker="b"))]
    lines = table_of(two, OPERATOR)["queues"]
    assert [(one["band"], one["tenant"], one["waiting"], one["tokens"]) for one in lines] == [
        (Band.PRIORITY, OTHER, 2, 200),
        (Band.DEFAULT, FLOOD, 11, 1_100),
    ]


def test_a_tenant_sees_its_own_line_and_one_of_all_others() -> None:
    mixed = report(waiting(5), waiting(6, fresh_id()), waiting(7, OTHER))
    lines = table_of([(0.0, mixed)], Whose(OTHER))["queues"]
    assert [(one["tenant"], one["waiting"]) for one in lines] == [(OTHER, 7), (None, 11)]


async def test_the_page_tells_a_tenant_no_address_and_no_other_tenant(bench: Bench) -> None:
    async with calling(bench) as http:
        before = (await http.get("/api/fleet")).json()
        assert before == {"workers": [], "engines": [], "queues": [], "served": [], "waits": []}
        own = waiting(30, TENANT.tenant)
        address = replace(ENGINE, name="http://10.0.0.7:8080")
        bench.fleet.heard(
            report(own, waiting(5), worker="host-a", engine=address), time.monotonic()
        )
        page = await http.get("/api/fleet")
        assert page.status_code == 200
        for secret in ("10.0.0.7", "host-a", str(FLOOD)):
            assert secret not in page.text
        waits = {line["band"]: line["wait_seconds"] for line in page.json()["waits"]}
        assert waits == {"priority": 0.0, "default": 3.5, "flex": 3.5}
        no_key = await http.get("/api/fleet", headers={"Authorization": ""})
        assert no_key.status_code == 401
