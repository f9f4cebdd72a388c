"""An answering worker's figures move with what it does, and stay few."""

from dataclasses import replace

import pytest
from prometheus_client.registry import CollectorRegistry

from events.conversations import Band
from infra.engine_addresses import EngineAddress
from infra.engines import open_engine, provider_of
from infra.limits import Limits
from infra.metrics.answers import GONE_SECONDS_MAX, AnswersMeter
from infra.metrics.labels import VALUES_MAX
from processors.answers import dispatch
from processors.answers.calls import Call, work_of
from processors.answers.dispatch import Dispatcher, DispatchLimits, Ticket
from processors.answers.engine import CannotContinue, EngineFailed, EngineRefused, Overloaded
from processors.answers.scheduling.retries import RetryLimits
from processors.answers.scheduling.work import QueueLimits
from tests.infra.metrics.reading import Figures, figures
from tests.processors.answers.fakes import MODEL, FakeEngine, breaking_after, request
from tests.processors.answers.test_dispatch import PROMPT, QUICK, failing

NAME, OTHER_NAME = "http://engine-1:3000", "https://engine-2"
AT = {"server_address": "engine-1", "server_port": "3000"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "TICK_SECONDS", 0.001)


class Worker:
    """A dispatcher that is measured."""

    def __init__(self, *engines: FakeEngine, **limits: object) -> None:
        self.registry = CollectorRegistry()
        self.meter = AnswersMeter(self.registry)
        chosen = DispatchLimits(**{"breaker": QUICK, **limits})  # type: ignore[arg-type]
        self.dispatcher = Dispatcher(engines, chosen, meter=self.meter)
        self.now = 0.0
        self.held = self.lost = 0
        self.meter.watch(
            engine=self.dispatcher.engine,
            report=lambda: self.dispatcher.report(self.held),
            decisions_lost=lambda: self.lost,
            now=lambda: self.now,
        )

    async def ask(self, model: str = MODEL, band: Band = Band.DEFAULT, *, said: str = "") -> None:
        """One call; what it raises is passed over."""
        prompt = replace(PROMPT, said=said)
        work = work_of(replace(request(band=band), model=model), prompt, 30)
        try:
            async for _ in Call(self.dispatcher, work, prompt).tokens():
                pass
        except (EngineFailed, EngineRefused, CannotContinue, Overloaded):
            pass

    async def figures(self) -> Figures:
        return await figures(self.registry)


async def test_a_call_that_went_well_is_counted_with_its_tokens_and_times() -> None:
    worker = Worker(FakeEngine(NAME))
    await worker.ask(band=Band.PRIORITY)
    seen = await worker.figures()
    call = {"gen_ai_request_model": MODEL, "gen_ai_operation_name": "chat", **AT}
    duration = "gen_ai_client_operation_duration_seconds"
    assert seen.value(f"{duration}_count", error_type="", **call) == 1
    assert seen.value("gen_ai_client_operation_time_to_first_chunk_seconds_count", **call) == 1
    assert 0 < seen.value(f"{duration}_sum") < 30
    assert seen.value("gen_ai_client_token_usage_sum", gen_ai_token_type="output", **call) == 5
    assert seen.value("gen_ai_client_token_usage_count", gen_ai_token_type="input", **call) == 1
    assert seen.value("thalweg_queue_wait_seconds_count", band="priority") == 1
    assert seen.value("thalweg_dispatches_total", engine=NAME, because="only") == 1
    assert seen.value("thalweg_calls_ended_total", engine=NAME, outcome="finished") == 1


async def test_a_call_that_fails_has_the_kind_of_its_failure_and_is_retried_within_the_budget() -> (
    None
):
    broken = FakeEngine(NAME, failing(10**9, EngineFailed("dead", kind="HTTP 500")))
    worker = Worker(broken, retries=RetryLimits(share=0, per_second=0.2))
    await worker.ask()
    seen = await worker.figures()
    duration = "gen_ai_client_operation_duration_seconds_count"
    assert seen.value(duration, error_type="500", **AT) == 3
    assert seen.value(duration, error_type="") == 0
    assert seen.value("gen_ai_client_operation_time_to_first_chunk_seconds_count") == 0
    assert seen.value("thalweg_calls_ended_total", engine=NAME, outcome="failed") == 3
    assert seen.value("thalweg_retries_total", budget="granted") == 2
    assert seen.value("thalweg_retries_total", budget="denied") == 1


async def test_work_without_an_engine_is_counted_by_its_reason() -> None:
    away = FakeEngine(NAME)
    away.unreachable = True
    worker = Worker(away, queue=QueueLimits(no_capacity_seconds_max=0.02))
    with pytest.raises(Exception, match="no engine"):
        async for _ in Call(worker.dispatcher, work_of(request(), PROMPT, 30), PROMPT).tokens():
            pass
    seen = await worker.figures()
    assert seen.value("thalweg_given_up_total", reason="no_capacity") == 1
    assert seen.value("thalweg_given_up_total") == 1
    state = "thalweg_engine_breaker"
    assert seen.value(state, engine=NAME, state="open") == 1
    assert seen.value(state, engine=NAME) == 1, "it is in one state"


async def test_what_is_so_now_is_read_when_somebody_asks() -> None:
    engine = FakeEngine(NAME)
    worker = Worker(engine)
    worker.held, worker.lost = 3, 7
    speaking = Call(worker.dispatcher, work_of(request(), PROMPT, 30), PROMPT).tokens()
    await anext(speaking)
    seen = await worker.figures()
    assert seen.value("thalweg_engine_in_flight", engine=NAME) == 1
    assert seen.value("thalweg_engine_bound", engine=NAME) == 36
    assert seen.value("thalweg_engine_places", engine=NAME) == 36
    assert seen.value("thalweg_engine_breaker", engine=NAME, state="closed") == 1
    assert seen.value("thalweg_engine_load", engine=NAME) == pytest.approx(1 / 36, abs=0.001)
    assert seen.value("thalweg_requests_held") == 3
    assert seen.value("thalweg_decisions_lost_total") == 7
    await speaking.aclose()
    assert (await worker.figures()).value("thalweg_engine_in_flight", engine=NAME) == 0


async def test_what_waits_is_shown_by_band_and_model() -> None:
    worker = Worker(FakeEngine(NAME))
    await worker.ask()
    worker.dispatcher._scheduler.seats[NAME].share = 0
    for band in (Band.FLEX, Band.FLEX, Band.DEFAULT):
        worker.dispatcher.enter(work_of(request(band=band), PROMPT, 30), lambda turn: None)
    seen = await worker.figures()
    assert seen.value("thalweg_queue_waiting", band="flex", model=MODEL) == 2
    assert seen.value("thalweg_queue_waiting", band="default", model=MODEL) == 1
    assert seen.value("thalweg_queue_waiting", band="priority") == 0
    assert seen.value("thalweg_queue_oldest_wait_seconds", band="flex") > 0
    await worker.dispatcher.close()


async def test_a_thousand_invented_models_make_no_new_series() -> None:
    worker = Worker(FakeEngine(NAME))
    await worker.ask()
    await worker.ask("invented")
    before = (await worker.figures()).series()
    for number in range(1_000):
        await worker.ask(f"invented-{number}")
    assert (await worker.figures()).series() == before


async def test_an_invented_model_that_waits_for_engines_to_come_is_other() -> None:
    worker = Worker()
    for number in range(1_000):
        work = work_of(replace(request(), model=f"invented-{number}"), PROMPT, 30)
        worker.dispatcher.enter(work, lambda turn: None)
    seen = await worker.figures()
    assert seen.values("thalweg_queue_waiting", "model") == {"other"}
    assert seen.value("thalweg_queue_waiting", band="default", model="other") == 1_000
    await worker.dispatcher.close()


async def test_an_engine_that_claims_more_models_than_anybody_has_makes_a_bounded_number() -> None:
    models = [f"model-{number}" for number in range(2 * VALUES_MAX)]
    worker = Worker(FakeEngine(NAME, models=models))
    for model in models:
        await worker.ask(model)
    seen = await worker.figures()
    used = seen.values("gen_ai_client_operation_duration_seconds_count", "gen_ai_request_model")
    assert len(used) == VALUES_MAX + 1
    assert "other" in used


async def test_an_engine_that_has_gone_for_good_takes_its_series_with_it() -> None:
    worker = Worker(FakeEngine(NAME), FakeEngine(OTHER_NAME))
    for _ in range(20):
        await worker.ask()
    await worker.figures()
    worker.dispatcher.set_engines([FakeEngine(OTHER_NAME)])
    worker.now += GONE_SECONDS_MAX
    assert (await worker.figures()).value("thalweg_dispatches_total", engine=NAME) > 0
    worker.now += 1
    await worker.figures()  # the last with them
    seen = await worker.figures()
    assert seen.value("thalweg_dispatches_total", engine=OTHER_NAME) > 0
    assert seen.value("gen_ai_client_operation_duration_seconds_count", server_port="443") > 0
    assert not {one for one in seen.series() if NAME in str(one) or "engine-1" in str(one)}
    await worker.dispatcher.close()


async def test_who_lets_go_after_some_tokens_had_no_error() -> None:
    worker = Worker(FakeEngine(NAME, breaking_after(100)))
    speaking = Call(worker.dispatcher, work_of(request(), PROMPT, 30), PROMPT).tokens()
    await anext(speaking)
    await speaking.aclose()
    seen = await worker.figures()
    assert seen.value("gen_ai_client_operation_duration_seconds_count", error_type="") == 1
    assert seen.value("thalweg_calls_ended_total", outcome="let_go") == 1


async def test_a_place_that_is_given_back_was_no_call() -> None:
    worker = Worker(FakeEngine(NAME))
    dispatched = await worker.dispatcher.acquire(work_of(request(), PROMPT, 30))
    Ticket(worker.dispatcher, dispatched).give_back()
    seen = await worker.figures()
    assert seen.value("thalweg_calls_ended_total", outcome="let_go") == 1
    assert seen.value("gen_ai_client_operation_duration_seconds_count") == 0


@pytest.mark.parametrize("kind", ["tgi", "openai"])
def test_a_provider_is_the_protocol(kind: str) -> None:
    assert provider_of(open_engine(EngineAddress.parse(f"{kind}+http://a:1"), Limits())) == kind
