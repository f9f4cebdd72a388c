"""Prometheus' figures of a whole installation: they move with what was done, and nothing else is
needed for it."""

import socket
import urllib.request
from collections.abc import Iterator

import pytest

from infra.servers.ports import LOCALHOST
from infra.settings import METRICS_PORTS
from infra.supervisor import ROLES
from tests.fixtures.numbered_process import NumberedEngine
from tests.fixtures.ports import free_ports_in_a_row
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg
from tests.infra.metrics.reading import Figures
from tests.system.conftest import client

TAKEN = "sagas"
"""Somebody else has this role's port."""
DURATION = "gen_ai_client_operation_duration_seconds_count"
SECONDS_MAX = 60


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """By role; one is taken."""
    first = free_ports_in_a_row(METRICS_PORTS)
    with socket.create_server((LOCALHOST, first + ROLES.index(TAKEN))):
        yield {role: first + number for number, role in enumerate(ROLES)}


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory, engine: NumberedEngine, ports: dict[str, int]
) -> Iterator[RunningThalweg]:
    with RunningThalweg(
        tmp_path_factory.mktemp("measured"),
        engines=f"tgi+http://{engine.address}",
        THALWEG_METRICS_PORT=str(min(ports.values())),
    ) as running:
        yield running


def scraped(port: int) -> Figures:
    with urllib.request.urlopen(f"http://{LOCALHOST}:{port}/metrics", timeout=SECONDS_MAX) as said:
        return Figures.of(said.read().decode())


def complete(thalweg: RunningThalweg, **more: object) -> int:
    """The status of one completion of 5 tokens."""
    with client(thalweg) as http:
        model = http.get("/v1/models").json()["data"][0]["id"]
        asked = {"model": model, "messages": [{"role": "user", "content": "5"}], "max_tokens": 5}
        return http.post("/v1/chat/completions", json={**asked, **more}).status_code


def test_after_a_completion_the_figures_of_every_role_on_its_way_have_moved(
    measured: RunningThalweg, ports: dict[str, int]
) -> None:
    workers = [ports["answers-1"], ports["answers-2"]]

    def calls(error: str = "") -> float:
        return sum(scraped(each).value(DURATION, error_type=error) for each in workers)

    def ends() -> float:
        return scraped(ports["recorder"]).value("thalweg_recorder_ends_total", outcome="recorded")

    wait_for(lambda: calls() == ends(), "what was done before to be counted")
    before, ended, gateway = calls(), ends(), scraped(ports["gateway"])
    assert complete(measured) == 200
    after = scraped(ports["gateway"])
    for name in (
        "gen_ai_server_request_duration_seconds_count",
        "gen_ai_server_time_to_first_token_seconds_count",
    ):
        assert after.value(name) == gateway.value(name) + 1, name
    assert after.value("thalweg_refusals_total") == gateway.value("thalweg_refusals_total")
    wait_for(lambda: calls() == before + 1, "the worker to count its call", seconds_max=SECONDS_MAX)
    wait_for(lambda: ends() == ended + 1, "the end to be counted", seconds_max=SECONDS_MAX)
    relay = scraped(ports["relay"])
    assert relay.value("thalweg_relay_events_total", context="conversations") >= 3
    assert relay.value("thalweg_relay_leads", context="conversations") == 1


def test_a_workers_call_names_model_provider_and_engine(
    measured: RunningThalweg, engine: NumberedEngine, ports: dict[str, int]
) -> None:
    assert complete(measured) == 200
    host, _, port = engine.address.partition(":")
    where = {"server_address": host, "server_port": port, "gen_ai_provider_name": "tgi"}

    def workers() -> list[Figures]:
        return [scraped(ports[role]) for role in ("answers-1", "answers-2")]

    wait_for(lambda: any(one.value(DURATION, **where) for one in workers()), "such a call")

    def are_whole() -> bool:
        seen = workers()
        places = sum(one.value("thalweg_engine_places") for one in seen)
        return places == seen[0].value("thalweg_engine_bound")

    wait_for(are_whole, "the workers' shares to be the whole", seconds_max=SECONDS_MAX)


def test_a_refusal_is_counted(measured: RunningThalweg, ports: dict[str, int]) -> None:
    reason = {"reason": "model_not_found"}
    before = scraped(ports["gateway"]).value("thalweg_refusals_total", **reason)
    assert complete(measured, model="unheard-of") == 404
    assert scraped(ports["gateway"]).value("thalweg_refusals_total", **reason) == before + 1


def test_a_port_that_is_taken_is_told_and_the_role_works(
    measured: RunningThalweg, ports: dict[str, int]
) -> None:
    told = measured.home / "up.log"
    assert f"no metrics are shown at {LOCALHOST}:{ports[TAKEN]}" in told.read_text()
    wait_for(lambda: "Metrics for Prometheus" in told.read_text(), "the start to be told whole")
    assert measured.pids(TAKEN)
    shown = {one["role"]: one["ports"] for one in measured.processes()}
    assert "metrics" not in shown[TAKEN]
    assert shown["gateway"]["metrics"] == ports["gateway"]


def test_users_do_not_reach_the_figures(measured: RunningThalweg) -> None:
    with client(measured) as http:
        assert http.get("/metrics").status_code == 404


def test_every_port_shows_the_process_behind_it(
    measured: RunningThalweg, ports: dict[str, int]
) -> None:
    for role, port in ports.items():
        if role != TAKEN:
            assert scraped(port).value("process_cpu_seconds_total") > 0, role
