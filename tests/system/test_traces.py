"""The stages of a turn are spans of one connected trace, also over kill -9 on the way.

An installation with a collector, from the first request to the projected end: many turns, some in
traces of the client's, some of which lose their worker or their gateway in mid-answer.
"""

import asyncio
import secrets
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import httpx2
import pytest

from tests.fixtures.collector import Collector, Seen, problems_of
from tests.fixtures.numbered_process import NumberedEngine
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg

TURNS = 120
AT_A_TIME = 8
KILLED_TURNS = 8
CONNECTED_SHARE_MIN = 0.99
COLLECTED_SECONDS_MAX = 180
SECRET = "nobody but the model may read this"

STAGES = {
    "POST /v1/chat/completions",
    "turn",
    "commit command",
    "send thalweg.answers.default",
    "receive request",
    "load transcript",
    "claim answer",
    "first token",
    "first text",
    "read back",
    "write live stream",
    "first frame",
    "record end",
    "send thalweg.conversations",
    "project answers",
    "project histories",
}


@dataclass
class Traced:
    thalweg: RunningThalweg
    collector: Collector

    def turns(self) -> dict[str, list[Seen]]:
        """The traces in which an answer was asked for."""
        asked = "send thalweg.answers.default"
        found = self.collector.traces()
        return {
            trace: spans
            for trace, spans in found.items()
            if any(span.name == asked for span in spans)
        }

    def ended(self) -> dict[str, list[Seen]]:
        """Those of which the last stages have come."""
        last = {"turn", "send thalweg.conversations"}
        return {
            trace: spans
            for trace, spans in self.turns().items()
            if last <= {span.name for span in spans}
        }


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, engine: NumberedEngine) -> Iterator[Traced]:
    home = tmp_path_factory.mktemp("traced")
    with (
        Collector() as collector,
        RunningThalweg(
            home,
            engines=f"tgi+http://{engine.address}",
            THALWEG_OTLP_ENDPOINT=collector.endpoint,
            THALWEG_ENGINE_BETWEEN_TOKENS_SECONDS_MAX=str(COLLECTED_SECONDS_MAX),
        ) as running,
    ):
        yield Traced(running, collector)


def body(said: str) -> dict[str, object]:
    return {
        "model": "numbered",
        "stream": True,
        "max_tokens": 1_000,
        "messages": [{"role": "user", "content": f"{said} {SECRET}"}],
    }


def http(traced: Traced) -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {traced.thalweg.api_key}"}
    return httpx2.AsyncClient(
        base_url=traced.thalweg.url, headers=headers, timeout=COLLECTED_SECONDS_MAX
    )


async def test_almost_every_turn_is_one_connected_trace(traced: Traced) -> None:
    left = iter(range(TURNS))
    given: list[str] = []

    async def client() -> None:
        async with http(traced) as calls:
            for number in left:
                headers = {}
                if number % 2:
                    given.append(secrets.token_hex(16))
                    headers["traceparent"] = f"00-{given[-1]}-{secrets.token_hex(8)}-01"
                said = await calls.post(
                    "/v1/chat/completions", json=body("tokens=3"), headers=headers
                )
                assert "[DONE]" in said.text

    await asyncio.gather(*(client() for _ in range(AT_A_TIME)))
    await asyncio.to_thread(all_collected, traced, TURNS)
    with suppress(AssertionError):  # what is lacking by then is judged
        await asyncio.to_thread(wait_for, lambda: not lacking(traced), "whole traces")
    turns = traced.turns()
    assert len(turns) == TURNS
    assert set(given) <= set(turns)
    assert len(lacking(traced)) <= (1 - CONNECTED_SHARE_MIN) * TURNS, lacking(traced)


async def test_the_stages_come_in_their_order_and_say_what_they_were(traced: Traced) -> None:
    trace = secrets.token_hex(16)
    async with http(traced) as calls:
        headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
        await calls.post("/v1/chat/completions", json=body("tokens=3"), headers=headers)
    await asyncio.to_thread(
        wait_for, lambda: {one.name for one in traced.collector.traces()[trace]} >= STAGES, "stages"
    )
    spans = {span.name: span for span in traced.turns()[trace]}
    request, turn = spans["POST /v1/chat/completions"], spans["turn"]
    assert turn.parent == request.id
    assert request.parent not in (span.id for span in spans.values()), "the client's own"
    stages = [span for span in spans.values() if span not in (request, turn)]
    assert {span.parent for span in stages} == {turn.id}
    assert request.what["http.response.status_code"] == 200
    assert turn.what["gen_ai.response.finish_reasons"] == ("stop",)
    assert turn.what["gen_ai.usage.output_tokens"] == 3
    assert spans["first token"].what["gen_ai.request.model"] == "numbered"
    ends = [spans[name].ended_ns for name in ("load transcript", "first token", "first frame")]
    assert ends == sorted(ends)


async def test_a_message_and_the_stream_of_its_answer_are_one_trace(traced: Traced) -> None:
    trace = secrets.token_hex(16)
    async with http(traced) as calls:
        conversation = (await calls.post("/api/conversations", json={})).json()["conversation"]
        posted = await calls.post(
            f"/api/conversations/{conversation}/messages",
            json={"content": "tokens=3", "parent": None},
            headers={"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"},
        )
        await calls.get(posted.headers["location"])
    await asyncio.to_thread(wait_for, lambda: trace in traced.ended(), "the trace")
    await asyncio.to_thread(
        wait_for,
        lambda: any(span.name == "first frame" for span in traced.turns()[trace]),
        "the first frame, of another request",
    )
    assert problems_of(traced.turns()[trace]) == []


async def test_a_trace_that_the_client_does_not_sample_has_no_spans(traced: Traced) -> None:
    unsampled, sampled = secrets.token_hex(16), secrets.token_hex(16)
    async with http(traced) as calls:
        for trace, flags in ((unsampled, "00"), (sampled, "01")):
            headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-{flags}"}
            await calls.post("/v1/chat/completions", json=body("tokens=3"), headers=headers)
    await asyncio.to_thread(wait_for, lambda: sampled in traced.ended(), "the later trace")
    assert unsampled not in traced.collector.traces()


@pytest.mark.parametrize(
    ("role", "which", "exported"),
    [
        pytest.param("answers", 0, True, id="a worker that has sent its first spans"),
        pytest.param("answers", 1, False, id="a worker that has sent none"),
        pytest.param("gateway", 0, True, id="a gateway, whose request spans nobody ever sends"),
        pytest.param("recorder", 0, True, id="a recorder"),
    ],
)
async def test_a_trace_stays_connected_when_a_process_is_killed(
    traced: Traced, engine: NumberedEngine, role: str, which: int, exported: bool
) -> None:
    """Every answer is open when it is killed: the engine goes on afterwards."""
    before = set(traced.turns())
    await asyncio.to_thread(wait_for, traced.thalweg.is_ready, "the role of the test before")
    begun = [asyncio.Event() for _ in range(KILLED_TURNS)]
    gate = secrets.randbits(32)

    async def ask(number: int) -> None:
        try:
            async with (
                http(traced) as calls,
                calls.stream(
                    "POST", "/v1/chat/completions", json=body(f"tokens=30 delay_ms=20 gate={gate}")
                ) as said,
            ):
                async for piece in said.aiter_text():
                    if '"content":" ' in piece:  # what comes before says nothing yet
                        begun[number].set()
        except httpx2.TransportError:
            assert role == "gateway", "only its own end breaks a stream"

    asking = [asyncio.create_task(ask(number)) for number in range(KILLED_TURNS)]
    async with asyncio.timeout(COLLECTED_SECONDS_MAX):
        await asyncio.gather(*(one.wait() for one in begun))
        if exported:
            await asyncio.to_thread(wait_for, lambda: claimed(traced, before), "first spans")
        traced.thalweg.signal(role, signal.SIGKILL, which=which)
        await asyncio.to_thread(engine.open_gate, gate)
        await asyncio.gather(*asking)
    await asyncio.to_thread(all_collected, traced, len(before) + KILLED_TURNS)

    def since() -> dict[str, list[Seen]]:
        return {trace: spans for trace, spans in traced.turns().items() if trace not in before}

    with suppress(AssertionError):  # what is lacking by then is judged
        await asyncio.to_thread(
            wait_for, lambda: not any(problems_of(spans) for spans in since().values()), "trees"
        )
    turns = since()
    assert len(turns) == KILLED_TURNS
    assert {trace: why for trace, spans in turns.items() if (why := problems_of(spans))} == {}
    if role == "answers":
        continued = [said_before(spans) for spans in turns.values()]
        assert any(continued), "the killed worker was giving some of the answers"
    if role == "answers" and exported:
        assert max(len(workers(spans)) for spans in turns.values()) >= 2  # its next life may too


def lacking(traced: Traced) -> list[tuple[list[str], set[str]]]:
    """What is wrong with each trace that is not whole: its problems, and the stages it lacks."""
    found = [
        (problems_of(spans), STAGES - {span.name for span in spans})
        for spans in traced.turns().values()
    ]
    return [(problems, without) for problems, without in found if problems or without]


def claimed(traced: Traced, before: set[str]) -> bool:
    """Every turn since has a first span of its worker."""
    since = [spans for trace, spans in traced.collector.traces().items() if trace not in before]
    return sum(any(s.name == "claim answer" for s in spans) for spans in since) >= KILLED_TURNS


def workers(spans: list[Seen]) -> set[object]:
    return {span.what["thalweg.worker"] for span in spans if span.name == "receive request"}


def said_before(spans: list[Seen]) -> bool:
    """Somebody has claimed an answer that had been begun."""
    return any(span.what["thalweg.said"] for span in spans if span.name == "claim answer")


async def test_nothing_personal_or_secret_is_in_what_was_sent(traced: Traced) -> None:
    async with http(traced) as calls:
        await calls.post("/v1/chat/completions", json=body("tokens=3"))
    await asyncio.to_thread(wait_for, traced.ended, "a turn's last stages")
    sent = b"".join(traced.collector.bodies)
    assert len(traced.turns()) > 0
    assert SECRET.encode() not in sent
    assert traced.thalweg.api_key.encode() not in sent


def all_collected(traced: Traced, turns: int) -> None:
    wait_for(
        lambda: len(traced.ended()) >= turns,
        f"the ends of {turns} turns",
        seconds_max=COLLECTED_SECONDS_MAX,
    )
