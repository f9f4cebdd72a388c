"""A gateway's figures: what clients waited for, and what was refused."""

import httpx2
from prometheus_client.registry import CollectorRegistry

from events.conversations import EndKind
from gateway.meter import SOON_SECONDS_MAX
from infra.metrics.gateway import GatewayFigures, GatewayMeter
from tests.gateway.fakes import MODEL, begun, calling, served, spoken, until
from tests.gateway.test_chat import chat
from tests.gateway.test_conversations import post, started
from tests.infra.metrics.reading import Figures, figures

SERVED = "gen_ai_server_request_duration_seconds_count"
FIRST = "gen_ai_server_time_to_first_token_seconds_count"
PER_TOKEN = "gen_ai_server_time_per_output_token_seconds_count"
OF = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "thalweg"}


class Counted:
    """A registry and the meter in it; the fleet serves MODEL."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.meter = GatewayMeter(self.registry, {MODEL}.__contains__)

    async def seen(self) -> Figures:
        return await figures(self.registry)


async def test_a_completion_is_measured_streamed_or_whole() -> None:
    counted = Counted()
    async with served(meter=counted.meter) as bench, calling(bench) as http:
        for stream in (True, False):
            assert (await chat(http, stream=stream)).status_code == 200
    seen = await counted.seen()
    assert seen.value(SERVED, gen_ai_request_model=MODEL, error_type="", **OF) == 2
    assert seen.value(FIRST, gen_ai_request_model=MODEL, **OF) == 2
    assert seen.value(PER_TOKEN, gen_ai_request_model=MODEL, **OF) == 2
    assert seen.value(SERVED) == 2


async def test_an_answer_that_fails_is_counted_by_its_reason_and_has_no_first_token() -> None:
    counted = Counted()
    async with served(meter=counted.meter) as bench, calling(bench) as http:
        bench.streams.script = spoken(kind=EndKind.FAIL, reason="overloaded", error="busy")
        await chat(http, stream=True)
        await chat(http)
    seen = await counted.seen()
    assert seen.value(SERVED, error_type="overloaded") == 2
    assert seen.value(FIRST) == seen.value(PER_TOKEN) == 0


async def test_a_message_of_the_native_api_is_measured_if_its_reader_comes_at_once() -> None:
    counted = Counted()
    async with served(meter=counted.meter) as bench, calling(bench) as http:
        await _follow(http)
    assert (await counted.seen()).value(SERVED, error_type="") == 1


async def test_who_reads_much_later_did_not_wait_all_the_time() -> None:
    counted = Counted()
    async with served(meter=counted.meter) as bench, calling(bench) as http:
        location = await _posted(http)
        for turn in bench.desk.followed._turns.values():
            turn.asked_at -= SOON_SECONDS_MAX
        await http.get(location)
        assert not bench.desk.followed._turns
    seen = await counted.seen()
    assert seen.value(SERVED) == seen.value(FIRST) == 0


async def test_who_reads_an_answer_again_is_not_counted_again() -> None:
    counted = Counted()
    async with served(meter=counted.meter) as bench, calling(bench) as http:
        whole = await chat(http)
        for location in (await _follow(http), whole.headers["location"]):
            assert (await http.get(location)).status_code == 200
    assert (await counted.seen()).value(SERVED) == 2


async def test_a_client_that_leaves_leaves_nothing_behind() -> None:
    counted = Counted()
    async with served(meter=counted.meter) as bench, calling(bench) as http:
        bench.streams.script = begun("Hel")
        asked = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        async with http.stream("POST", "/v1/chat/completions", json=asked) as answered:
            await anext(answered.aiter_bytes())
            assert bench.desk.followed._turns
        await until(lambda: not bench.desk.followed._turns)
    seen = await counted.seen()
    assert (seen.value(FIRST), seen.value(SERVED)) == (1, 0)


async def test_refusals_are_counted_by_their_code_on_both_faces() -> None:
    counted = Counted()
    async with served(meter=counted.meter) as bench, calling(bench) as http:
        assert (await chat(http, model="unheard-of")).status_code == 404
        assert (await http.get("/api/answers/x/stream")).status_code == 404
    seen = await counted.seen()
    for reason in ("model_not_found", "not_found"):
        assert seen.value("thalweg_refusals_total", reason=reason) == 1
    assert seen.value("thalweg_refusals_total") == 2


async def test_refusals_for_want_of_room_have_a_figure_before_the_first_one() -> None:
    reasons = (await Counted().seen()).values("thalweg_refusals_total", "reason")
    assert reasons == {"fleet_contended", "no_engine", "too_many_unanswered"}


async def test_a_thousand_invented_models_make_no_new_series() -> None:
    counted = Counted()
    async with served(meter=counted.meter) as bench, calling(bench) as http:
        await chat(http)
        await chat(http, model="invented")
        bench.models.served = None  # nobody knows yet, so that all are taken
        await chat(http, model="invented")
        before = (await counted.seen()).series()
        for number in range(1_000):
            counted.meter.first_token(f"invented-{number}", 0.1)
            if number % 100 == 0:
                assert (await chat(http, model=f"invented-{number}")).status_code == 200
    assert (await counted.seen()).series() == before


async def test_open_streams_are_read_when_somebody_asks() -> None:
    counted = Counted()
    async with served(meter=counted.meter) as bench, calling(bench) as http:
        counted.registry.register(GatewayFigures(bench.desk.open_streams.__len__))
        bench.streams.script = begun("Hel")
        asked = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        async with http.stream("POST", "/v1/chat/completions", json=asked) as answered:
            await anext(answered.aiter_bytes())
            assert (await counted.seen()).value("thalweg_streams_open") == 1
        await until(lambda: not bench.desk.open_streams._open)
    assert (await counted.seen()).value("thalweg_streams_open") == 0


async def _posted(http: httpx2.AsyncClient) -> str:
    conversation = await started(http)
    answered = await post(http, conversation)
    assert answered.status_code == 202, answered.text
    return str(answered.headers["location"])


async def _follow(http: httpx2.AsyncClient) -> str:
    location = await _posted(http)
    assert (await http.get(location)).status_code == 200
    return location
