"""Names, labels and buckets are what dashboards and alerts are built on: they are listed here, and
a change of them breaks somebody's."""

import asyncio
from collections.abc import Iterator

import pytest
from prometheus_client.registry import CollectorRegistry

from events.answers import EntryEnd
from events.conversations import EndKind, Usage
from events.ids import fresh_id
from gateway.meter import Followed
from infra.metrics.families import FAMILIES
from infra.metrics.gateway import GatewayFigures, GatewayMeter
from infra.metrics.log_roles import RecorderFigures, RelayFigures
from infra.metrics.shown import new_registry
from infra.relay import Relay
from processors.answers import dispatch
from processors.answers.recorder import Recorder
from tests.infra.metrics.reading import Figures, figures
from tests.infra.metrics.test_answers_figures import NAME, Worker
from tests.processors.answers.fakes import FakeEngine

CALL = {"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"}
AT = {"server_address", "server_port"}
CONTRACT: dict[str, set[str]] = {
    # OpenTelemetry's semantic conventions for generative AI
    "gen_ai_client_operation_duration_seconds": CALL | AT | {"error_type"},
    "gen_ai_client_operation_time_to_first_chunk_seconds": CALL | AT,
    "gen_ai_client_token_usage": CALL | AT | {"gen_ai_token_type"},
    "gen_ai_server_request_duration_seconds": CALL | {"error_type"},
    "gen_ai_server_time_to_first_token_seconds": CALL,
    "gen_ai_server_time_per_output_token_seconds": CALL,
    # the queue's own
    "thalweg_queue_waiting": {"band", "model"},
    "thalweg_queue_oldest_wait_seconds": {"band"},
    "thalweg_queue_wait_seconds": {"band"},
    "thalweg_dispatches_total": {"engine", "because"},
    "thalweg_calls_ended_total": {"engine", "outcome"},
    "thalweg_given_up_total": {"reason"},
    "thalweg_retries_total": {"budget"},
    "thalweg_tokens_wasted_total": set(),
    "thalweg_engine_breaker": {"engine", "state"},
    "thalweg_engine_in_flight": {"engine"},
    "thalweg_engine_places": {"engine"},
    "thalweg_engine_bound": {"engine"},
    "thalweg_engine_load": {"engine"},
    "thalweg_requests_held": set(),
    "thalweg_partitions_owned": set(),
    "thalweg_decisions_lost_total": set(),
    "thalweg_refusals_total": {"reason"},
    "thalweg_streams_open": set(),
    "thalweg_relay_leads": {"context"},
    "thalweg_relay_events_total": {"context"},
    "thalweg_recorder_records_total": set(),
    "thalweg_recorder_ends_total": {"outcome"},
    "thalweg_recorder_ends_waiting": set(),
}
PROCESS = {
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
}
POWERS = [0.01 * 2**power for power in range(14)]
BUCKETS = {
    "gen_ai_client_operation_duration_seconds": POWERS,
    "gen_ai_client_operation_time_to_first_chunk_seconds": POWERS,
    "gen_ai_server_request_duration_seconds": POWERS,
    "gen_ai_client_token_usage": [4**power for power in range(14)],
    "gen_ai_server_time_to_first_token_seconds": [
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
        *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    ],
    "gen_ai_server_time_per_output_token_seconds": [
        *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
    ],
}
"""As OpenTelemetry advises."""


@pytest.fixture(scope="module")
def shown() -> Figures:
    """Every family of every role, after something has happened."""
    return asyncio.run(_everything())


async def _everything() -> Figures:
    """One registry for each role, as each has its own process."""
    own = await figures(new_registry())
    worker = Worker(FakeEngine(NAME))
    await worker.ask()
    worker.meter.wasted(1)
    await worker.dispatcher.close()
    roles = [await figures(each) for each in (worker.registry, _gateway(), _log_roles())]
    return Figures(tuple(family for one in (own, *roles) for family in one.families))


def _gateway() -> CollectorRegistry:
    registry = CollectorRegistry()
    meter = GatewayMeter(registry, lambda model: True)
    registry.register(GatewayFigures(lambda: 0))
    answer, followed = fresh_id(), Followed(meter, lambda answer: None)
    followed.asked(answer, "model", 0.0)
    followed.first(answer)
    followed.end(answer, EntryEnd(EndKind.FINISH, "stop", None, Usage(completion_tokens=2)))
    meter.refused("not_found")
    return registry


def _log_roles() -> CollectorRegistry:
    registry = CollectorRegistry()
    relay = object.__new__(Relay)
    relay.leads, relay.events_sent = True, 3
    registry.register(RelayFigures(lambda: [("conversations", relay)]))
    recorders = RecorderFigures()
    registry.register(recorders)
    recorders.of(Recorder(None, None, answer_seconds_max=1))  # type: ignore[arg-type]  # not run
    return registry


def test_the_families_are_those_of_the_contract(shown: Figures) -> None:
    ours = {family.name for family in shown.families} - _names(PROCESS)
    assert ours == _names(CONTRACT)
    assert {family.name for family in FAMILIES} == set(CONTRACT)


@pytest.mark.parametrize("name", CONTRACT)
def test_the_labels_of_a_family_are_those_of_the_contract(shown: Figures, name: str) -> None:
    assert shown.labels(*_names([name])) == CONTRACT[name]


@pytest.mark.parametrize("name", BUCKETS)
def test_buckets_are_as_the_convention_advises(shown: Figures, name: str) -> None:
    limits = sorted(float(limit) for limit in shown.values(f"{name}_bucket", "le"))
    assert limits == pytest.approx([*BUCKETS[name], float("inf")])


def test_a_process_shows_what_it_uses(shown: Figures) -> None:
    assert _names(PROCESS) <= {family.name for family in shown.families}
    assert shown.value("process_resident_memory_bytes") > 0


def test_no_label_can_name_a_person_or_a_conversation() -> None:
    used = {label for labels in CONTRACT.values() for label in labels}
    assert not used & {"tenant", "user", "subject", "key", "conversation", "answer", "request"}
    assert used == {label for family in FAMILIES for label in family.labels}


def test_every_family_says_what_it_is(shown: Figures) -> None:
    meanings = {family.name: family.meaning for family in FAMILIES}
    for family in shown.families:
        if family.name in _names(CONTRACT):
            assert family.documentation in meanings.values()


def _names(samples: set[str] | dict[str, set[str]] | list[str]) -> set[str]:
    """Of families, as the parser gives them: a counter's is without its suffix."""
    return {name.removesuffix("_total") for name in samples}


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    before, dispatch.TICK_SECONDS = dispatch.TICK_SECONDS, 0.001
    yield
    dispatch.TICK_SECONDS = before
