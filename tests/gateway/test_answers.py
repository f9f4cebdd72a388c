"""Streams of answers on the native API, read from any cursor, and cancelled."""

import json
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from events.conversations import AnswerCancelRequested
from tests.gateway.fakes import MODEL, Bench, begun, spoken
from tests.gateway.test_conversations import post, started


async def asked(http: httpx2.AsyncClient) -> dict[str, Any]:
    posted = await post(http, await started(http))
    body: dict[str, Any] = posted.json()
    return body


def stream_of(posted: dict[str, Any]) -> str:
    return f"/api/answers/{posted['answer']}/stream"


async def test_a_stream_is_framed_as_the_standard_has_it(http: httpx2.AsyncClient) -> None:
    answered = await http.get(stream_of(await asked(http)))
    assert answered.status_code == 200
    assert answered.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answered.headers["cache-control"] == "no-store"
    end = (
        '{"index":2,"text":"","kind":"finish","reason":"stop","error":null,'
        '"usage":{"prompt_tokens":3,"completion_tokens":2}}'
    )
    assert answered.text == (
        "retry: 1000\n\n"
        'id: 0\nevent: chunk\ndata: {"index":0,"text":"Hel"}\n\n'
        'id: 1\nevent: chunk\ndata: {"index":1,"text":"lo"}\n\n'
        f"id: 2\nevent: end\ndata: {end}\n\n"
    )


async def test_text_with_line_ends_stays_in_its_frame(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    bench.streams.script = spoken("a\n\nb\r\r", "\u2028\x00")
    text = (await http.get(stream_of(await asked(http)))).text
    frames = [frame for frame in text.split("\n\n") if "data: " in frame]
    said = [json.loads(frame.partition("data: ")[2])["text"] for frame in frames]
    assert said == ["a\n\nb\r\r", "\u2028\x00", ""]
    assert "\r" not in text


@pytest.mark.parametrize("by_header", [True, False])
async def test_a_cursor_reads_what_follows_it(http: httpx2.AsyncClient, by_header: bool) -> None:
    posted = await asked(http)
    for after in (0, 1):
        headers = {"Last-Event-ID": str(after)} if by_header else {}
        params = {} if by_header else {"starting_after": str(after)}
        answered = await http.get(stream_of(posted), headers=headers, params=params)
        ids = [line for line in answered.text.splitlines() if line.startswith("id:")]
        assert ids == [f"id: {index}" for index in range(after + 1, 3)]


async def test_the_header_comes_before_the_parameter(http: httpx2.AsyncClient) -> None:
    """An EventSource keeps its address when it reconnects, and adds the header."""
    answered = await http.get(
        stream_of(await asked(http)), headers={"Last-Event-ID": "1"}, params={"starting_after": 0}
    )
    assert "id: 1" not in answered.text
    assert "id: 2" in answered.text


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "0x1", "9999999999", "\u0661", " "])
async def test_a_cursor_that_is_none_is_refused(http: httpx2.AsyncClient, cursor: str) -> None:
    posted = await asked(http)
    by_parameter = await http.get(stream_of(posted), params={"starting_after": cursor})
    assert by_parameter.status_code == 400
    assert by_parameter.json()["param"] == "starting_after"
    if cursor.strip():
        by_header = await http.get(stream_of(posted), headers=[(b"Last-Event-ID", cursor.encode())])
        assert by_header.json()["param"] == "Last-Event-ID"


async def test_a_reader_at_the_end_of_an_ended_answer_is_told_not_to_come_again(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    posted = await asked(http)
    await bench.end(posted["conversation"], posted["answer"])
    late = await http.get(stream_of(posted), params={"starting_after": 1})
    assert late.text.count("id: ") == 1
    for cursor in ("2", "77"):
        over = await http.get(stream_of(posted), headers={"Last-Event-ID": cursor})
        assert (over.status_code, over.content) == (204, b"")
    assert bench.streams.reading == 0


async def test_what_cannot_be_read_now_says_so_and_nothing_is_lost(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    posted = await asked(http)
    bench.streams.unavailable_after = 0
    answered = await http.get(stream_of(posted))
    last = answered.text.split("\n\n")[-2]
    assert last.startswith("event: problem\ndata: ")
    assert "id:" not in last  # the cursor stays where it was
    assert json.loads(last.partition("data: ")[2])["code"] == "answer_stream_unavailable"
    await bench.end(posted["conversation"], posted["answer"])
    refused = await http.get(stream_of(posted), params={"starting_after": 0})
    assert (refused.status_code, refused.json()["code"]) == (503, "answer_stream_unavailable")


async def test_another_tenants_answer_is_not_there(
    http: httpx2.AsyncClient, stranger: httpx2.AsyncClient, bench: Bench
) -> None:
    posted = await asked(http)
    stored = bench.events_stored()
    assert (await stranger.get(stream_of(posted))).status_code == 404
    assert (await stranger.post(f"/api/answers/{posted['answer']}/cancel")).status_code == 404
    assert (await http.get(f"/api/answers/{uuid4()}/stream")).status_code == 404
    assert (await http.get("/api/answers/nonsense/stream")).status_code == 404
    assert bench.events_stored() == stored
    assert bench.streams.refs == []


async def test_a_cancel_is_asked_for_once(http: httpx2.AsyncClient, bench: Bench) -> None:
    bench.streams.script = begun("Hel")
    posted = await asked(http)
    first = await http.post(f"/api/answers/{posted['answer']}/cancel")
    again = await http.post(f"/api/answers/{posted['answer']}/cancel", json={})
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.headers["location"] == stream_of(posted)
    events = [recorded.event for recorded in bench.events(posted["conversation"])]
    assert [type(event) for event in events].count(AnswerCancelRequested) == 1
    keyed = [
        await http.post(f"/api/answers/{posted['answer']}/cancel", headers={"Idempotency-Key": "c"})
        for _ in range(2)
    ]
    assert keyed[0].content == keyed[1].content
    with_body = await http.post(f"/api/answers/{posted['answer']}/cancel", json={"why": 1})
    assert with_body.status_code == 400


async def test_an_openai_answer_has_the_same_stream(http: httpx2.AsyncClient, bench: Bench) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    answered = await http.post("/v1/chat/completions", json=body)
    assert answered.json()["choices"][0]["message"]["content"] == "Hello"
    stream = await http.get(answered.headers["location"])
    assert stream.text.count("event: chunk") == 2
    answer = UUID(answered.headers["location"].split("/")[3])
    assert answered.json()["id"] == f"chatcmpl-{answer.hex}"
    assert bench.streams.refs[0].just_asked
    assert not bench.streams.refs[1].just_asked
