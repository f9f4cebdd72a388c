"""What the gateway tells of a request: its own span, and the stages of the turn that it began."""

from typing import Any

import httpx2
import pytest

from events import trace
from events.trace import Kind, Span
from tests.fixtures.spans import names
from tests.gateway.fakes import API_KEY, MODEL, Bench

ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "Hi, secretly"}]}
KEY = {"Idempotency-Key": "one-send"}
CALLERS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def chat(http: httpx2.AsyncClient, headers: Any = None, **more: Any) -> httpx2.Response:
    return await http.post("/v1/chat/completions", json={**ASKED, **more}, headers=headers)


def one(spans: list[Span], name: str) -> Span:
    (found,) = [span for span in spans if span.name == name]
    return found


async def test_a_request_is_a_span_of_the_callers_trace_and_its_stages_are_of_the_turn(
    http: httpx2.AsyncClient, bench: Bench, told: list[Span]
) -> None:
    answered = await chat(http, {"traceparent": CALLERS}, stream=True)
    request = one(told, "POST /v1/chat/completions")
    [requested] = [
        event
        for event in bench.events(bench.streams.refs[-1].conversation)
        if event.event.TYPE.endswith("answer_requested")
    ]
    assert requested.meta.traceparent == request.traceparent, "the events name the request"
    assert (request.kind, request.parent) == (Kind.SERVER, CALLERS.split("-")[2])
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["thalweg.request"] == answered.headers["x-request-id"]
    turn = trace.turn_of(request.traceparent).split("-")[2]
    assert sorted(names(told)) == ["POST /v1/chat/completions", "commit command", "first frame"]
    assert {span.parent for span in told if span is not request} == {turn}


async def test_a_repeat_begins_no_turn(http: httpx2.AsyncClient, told: list[Span]) -> None:
    await chat(http, KEY, stream=True)
    told.clear()
    await chat(http, KEY, stream=True)
    request = one(told, "POST /v1/chat/completions")
    assert {span.parent for span in told if span is not request} == {
        request.traceparent.split("-")[2]
    }


async def test_the_first_reader_of_an_answers_stream_joins_its_turn(
    http: httpx2.AsyncClient, told: list[Span]
) -> None:
    conversation = (await http.post("/api/conversations")).json()["conversation"]
    message = {"content": "Hi", "parent": None}
    posted = await http.post(f"/api/conversations/{conversation}/messages", json=message)
    turn = one(told, "commit command").parent
    told.clear()
    await http.get(posted.headers["location"])
    await http.get(posted.headers["location"])
    frames = [span.parent for span in told if span.name == "first frame"]
    assert frames[0] == turn
    assert frames[1] != turn
    requests = [span for span in told if span.name == "GET /api/answers/{answer}/stream"]
    assert all(span.parent is None for span in requests)


@pytest.mark.parametrize("asked", ["stream", "whole"])
async def test_a_caller_who_does_not_sample_is_told_of_nowhere(
    http: httpx2.AsyncClient, told: list[Span], asked: str
) -> None:
    await chat(http, {"traceparent": f"{CALLERS[:-1]}0"}, stream=asked == "stream")
    assert told == []


async def test_health_is_no_trace_and_what_fails_says_so(
    http: httpx2.AsyncClient, told: list[Span]
) -> None:
    await http.get("/livez")
    await http.get("/readyz")
    assert told == []
    await http.get("/nowhere/with-an-id-in-it")
    assert names(told) == ["GET"], "an address that is no route is not written down"
    assert told[0].attributes["http.response.status_code"] == 404


async def test_nothing_personal_is_told(http: httpx2.AsyncClient, told: list[Span]) -> None:
    await chat(http, user="somebody@example.com", stream=False)
    assert "whole answer" in names(told)
    assert all(text not in str(told) for text in ("secretly", "somebody", "Hel", API_KEY))
