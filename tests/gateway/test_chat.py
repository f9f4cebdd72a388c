"""OpenAI's face, byte for byte; tests/contracts/openai/ has its official client against it."""

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx2
import pytest

from commands.errors import StoreUnavailable
from events.conversations import (
    AnswerRequested,
    Band,
    EndKind,
    MessagePosted,
    Sampling,
    TokenLogprob,
)
from tests.gateway.fakes import MODEL, TENANT, Bench, spoken, until

ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
KEY = {"Idempotency-Key": "one-send"}


async def chat(http: httpx2.AsyncClient, headers: Any = None, **more: Any) -> httpx2.Response:
    return await http.post("/v1/chat/completions", json={**ASKED, **more}, headers=headers)


def conversation_of(bench: Bench) -> UUID:
    return bench.streams.refs[-1].conversation


async def test_a_stream_has_the_frames_that_openai_clients_read(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    answered = await chat(http, stream=True)
    answer = bench.streams.refs[0].answer
    created = int(bench.events(conversation_of(bench))[-1].meta.time.timestamp())
    assert answered.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answered.headers["location"] == f"/api/answers/{answer}/stream"
    stored_at = json.loads(answered.text.splitlines()[0].removeprefix("data: "))["created"]
    assert abs(stored_at - created) <= 1
    head = (
        f'data: {{"id":"chatcmpl-{answer.hex}","object":"chat.completion.chunk",'
        f'"created":{stored_at},"model":"{MODEL}","service_tier":"default","choices":[{{"index":0,"delta":'
    )
    none = ',"logprobs":null,"finish_reason":null}]}\n\n'
    assert answered.text == (
        f'{head}{{"role":"assistant","content":""}}{none}'
        f'{head}{{"content":"Hel"}}{none}'
        f'{head}{{"content":"lo"}}{none}'
        f'{head}{{}},"logprobs":null,"finish_reason":"stop"}}]}}\n\n'
        "data: [DONE]\n\n"
    )


async def test_usage_comes_last_if_it_is_asked_for(http: httpx2.AsyncClient) -> None:
    answered = await chat(http, stream=True, stream_options={"include_usage": True})
    frames = [line.removeprefix("data: ") for line in answered.text.splitlines() if line]
    chunks = [json.loads(frame) for frame in frames[:-1]]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {
        "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "band", "used"),
    [
        (None, Band.DEFAULT, "default"),
        ("auto", Band.DEFAULT, "default"),
        ("default", Band.DEFAULT, "default"),
        ("flex", Band.FLEX, "flex"),
        ("priority", Band.PRIORITY, "priority"),
    ],
)
async def test_the_service_tier_is_the_band_and_is_said(
    http: httpx2.AsyncClient, bench: Bench, asked: str | None, band: Band, used: str
) -> None:
    whole = await chat(http, service_tier=asked)
    requested = bench.events(conversation_of(bench))[-1].event
    assert isinstance(requested, AnswerRequested)
    assert requested.band is band
    assert whole.json()["service_tier"] == used
    frames = (await chat(http, service_tier=asked, stream=True)).text.split("\n\n")[:-2]
    assert {json.loads(one.removeprefix("data: "))["service_tier"] for one in frames} == {used}


async def test_log_probabilities_are_written_as_openais(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    said = TokenLogprob(token="é", logprob=-0.5, top=(("é", -0.5), ("e", -2.0)))
    first, *rest = spoken("é", last="!")
    last = TokenLogprob(token="!", logprob=0.0)
    bench.streams.script = [
        replace(first, logprobs=(said,)), replace(rest[0], logprobs=(last,))
    ]  # fmt: skip
    one = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    other = {"token": "e", "logprob": -2.0, "bytes": [101]}
    rows = [
        {**one, "top_logprobs": [one, other]},
        {"token": "!", "logprob": 0.0, "bytes": [33], "top_logprobs": []},
    ]
    [choice] = (await chat(http, logprobs=True, top_logprobs=2)).json()["choices"]
    assert choice["logprobs"] == {"content": rows, "refusal": None}
    frames = (await chat(http, logprobs=True, stream=True)).text.split("\n\n")[:-2]
    choices = [json.loads(one.removeprefix("data: "))["choices"][0] for one in frames]
    assert [one["logprobs"] and one["logprobs"]["content"] for one in choices] == [
        None, rows[:1], rows[1:], None
    ]  # fmt: skip


async def test_what_was_asked_of_sampling_is_recorded(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    asked = {"frequency_penalty": -2, "presence_penalty": 1.5, "logprobs": True, "top_logprobs": 5}
    assert (await chat(http, max_tokens=3, **asked)).status_code == 200
    requested = bench.events(conversation_of(bench))[-1].event
    assert isinstance(requested, AnswerRequested)
    assert requested.sampling == Sampling(max_tokens=3, **asked)


async def test_a_response_says_how_long_it_took(http: httpx2.AsyncClient) -> None:
    assert int((await chat(http)).headers["openai-processing-ms"]) >= 1
    assert "openai-processing-ms" not in (await http.get("/livez")).headers


async def test_a_whole_answer_is_one_object(http: httpx2.AsyncClient, bench: Bench) -> None:
    bench.streams.script = spoken("Hel", "l", last="o", reason="length")
    body = (await chat(http)).json()
    assert body["object"] == "chat.completion"
    [choice] = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello", "refusal": None}
    assert choice["finish_reason"] == "length"
    assert body["usage"]["total_tokens"] == 5


async def test_the_last_text_and_the_finish_come_with_the_end(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    bench.streams.script = spoken("Hel", "", last="lo", reason="length")
    text = (await chat(http, stream=True)).text
    contents = [line for line in text.splitlines() if '"content":"' in line]
    assert len(contents) == 3  # the opening one, and no empty chunk
    assert '"content":"lo"' in contents[-1]
    assert text.count('"finish_reason":"length"') == 1


async def test_a_cancelled_answer_stops_with_what_was_said(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    bench.streams.script = spoken("Hel", kind=EndKind.CANCELLED, reason="cancelled")
    [choice] = (await chat(http)).json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hel", "stop")
    assert '"finish_reason":"stop"' in (await chat(http, stream=True)).text


@pytest.mark.parametrize(
    ("reason", "status", "kind"),
    [
        ("engine", 502, "server_error"),
        ("overloaded", 429, "rate_limit_error"),
        ("no_engine", 503, "server_error"),
        ("poisonous", 500, "server_error"),
        ("refused", 400, "invalid_request_error"),
    ],
)
async def test_a_failed_answer_is_an_error(
    http: httpx2.AsyncClient, bench: Bench, reason: str, status: int, kind: str
) -> None:
    bench.streams.script = spoken("Hel", kind=EndKind.FAIL, reason=reason, error="It broke.")
    error = {"error": {"message": "It broke.", "type": kind, "param": None, "code": reason}}
    whole = await chat(http)
    assert (whole.status_code, whole.json()) == (status, error)
    assert whole.headers.get("x-should-retry") == ("false" if reason == "poisonous" else None)
    keyed = await chat(http, KEY)
    assert keyed.headers["x-should-retry"] == "false"  # it would get the same answer again
    streamed = (await chat(http, stream=True)).text
    assert json.loads(streamed.split("\n\n")[-2].removeprefix("data: ")) == error
    assert "[DONE]" not in streamed


async def test_what_failed_for_want_of_room_or_time_says_when_to_come_again(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    for reason in ("overloaded", "no_engine"):
        bench.streams.script = spoken("", kind=EndKind.FAIL, reason=reason)
        assert (await chat(http)).headers["retry-after"] == "10"
    bench.streams.script = spoken("Hel", kind=EndKind.FAIL, reason="deadline")
    late = await chat(http)
    assert (late.status_code, late.headers["x-should-retry"]) == (504, "false"), "its time is over"


@pytest.mark.parametrize("stream", [True, False])
async def test_the_same_key_gives_the_same_bytes_and_one_turn(
    http: httpx2.AsyncClient, bench: Bench, stream: bool
) -> None:
    first = await chat(http, KEY, stream=stream)
    stored = bench.events_stored()
    again = await chat(http, KEY, stream=stream)
    assert first.status_code == 200
    assert first.content == again.content
    assert first.headers["location"] == again.headers["location"]
    assert bench.events_stored() == stored
    other = await chat(http, KEY, stream=stream, seed=1)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    without = await chat(http, stream=stream)
    assert without.headers["location"] != first.headers["location"]


async def test_a_call_is_one_command_with_all_its_messages(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be "}] * 2},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello.", "refusal": None, "tool_calls": None},
        {"role": "user", "content": "Again"},
    ]
    how = {"max_completion_tokens": 9, "temperature": 1, "top_p": 0.5, "seed": 7, "stop": ["a"]}
    assert (await chat(http, messages=messages, user="ann", n=1, **how)).status_code == 200
    recorded = bench.events(conversation_of(bench))
    posted = [one.event for one in recorded if isinstance(one.event, MessagePosted)]
    assert [(one.role.value, one.content) for one in posted] == [
        ("system", "Be brief."),
        ("system", "Be Be "),
        ("user", "Hi"),
        ("assistant", "Hello."),
        ("user", "Again"),
    ]
    assert [one.parent for one in posted] == [None, *(one.message for one in posted[:-1])]
    asked = recorded[-1].event
    assert isinstance(asked, AnswerRequested)
    assert asked.parent == posted[-1].message
    assert asked.sampling == Sampling(max_tokens=9, temperature=1, top_p=0.5, seed=7, stop=("a",))
    assert {one.meta.subject for one in recorded} == {"ann"}
    await chat(http)
    assert bench.events(conversation_of(bench))[0].meta.subject == TENANT.owner


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"logprobs": True, "top_logprobs": 6}, "top_logprobs"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"frequency_penalty": 2.1}, "frequency_penalty"),
        ({"presence_penalty": -3}, "presence_penalty"),
        ({"tools": []}, "tools"),
        ({"service_tier": "scale"}, "service_tier"),
        ({"store": "no"}, "store"),
        ({"response_format": {"type": "text"}}, "response_format"),
        ({"functions": [], "temperature": "hot"}, "functions"),
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"more": 1}}, "stream_options.more"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"max_completion_tokens": 1_000_000}, "max_completion_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"stop": [""]}, "stop[0]"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"user": ""}, "user"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "name": "a"}]}, "messages[0].name"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}] * 1_001}, "messages"),
        ({"model": None}, "model"),
    ],
)
async def test_what_is_not_taken_is_refused_by_name_and_never_ignored(
    http: httpx2.AsyncClient, bench: Bench, wrong: dict[str, Any], param: str
) -> None:
    answered = await chat(http, **wrong)
    error = answered.json()["error"]
    assert (answered.status_code, error["type"]) == (400, "invalid_request_error"), error
    assert error["param"] == param, error
    assert bench.events_stored() == 0


async def test_an_image_is_refused(http: httpx2.AsyncClient) -> None:
    part = {"type": "image_url", "image_url": {"url": "x"}}
    answered = await chat(http, messages=[{"role": "user", "content": [part]}])
    error = answered.json()["error"]
    assert (answered.status_code, error["param"]) == (400, "messages[0].content[0].image_url")


async def test_a_null_counts_as_absent(http: httpx2.AsyncClient) -> None:
    nulls = dict.fromkeys(("tools", "logit_bias", "stop", "max_tokens", "stream", "n", "user"))
    assert (await chat(http, **nulls)).status_code == 200


async def test_errors_of_the_door_have_openais_form(http: httpx2.AsyncClient, bench: Bench) -> None:
    wrong_key = {"Authorization": "Bearer wrong"}
    for answered, status, code in (
        (await http.get("/v1/models", headers=wrong_key), 401, "invalid_api_key"),
        (await http.get("/v1/nothing"), 404, "not_found"),
        (await http.put("/v1/chat/completions"), 405, "method_not_allowed"),
        (await http.post("/v1/chat/completions", content=b"{"), 400, "invalid_request"),
        (await chat(http, messages=[{"role": "user", "content": "x" * 3_000_000}]), 413,
         "body_too_large"),
        (await chat(http, messages=[{"role": "user", "content": "x" * 1_000_000}]), 413,
         "event_too_large"),
    ):  # fmt: skip
        assert (answered.status_code, answered.json()["error"]["code"]) == (status, code)
        assert answered.headers["content-type"] == "application/json"
        assert answered.headers["x-request-id"]
    assert bench.events_stored() == 0


async def test_a_surrogate_is_not_text(http: httpx2.AsyncClient) -> None:
    content = json.dumps({**ASKED, "user": "\ud800"})
    answered = await http.post("/v1/chat/completions", content=content)
    assert answered.status_code == 400
    assert "surrogate" in answered.json()["error"]["message"]


async def test_a_store_that_is_away_is_said_and_nothing_waits(
    http: httpx2.AsyncClient, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(append: object) -> None:
        raise StoreUnavailable("connection refused")

    monkeypatch.setattr(bench.store, "append", away)
    answered = await chat(http)
    assert (answered.status_code, answered.json()["error"]["code"]) == (503, "store_unavailable")
    await until(lambda: bench.streams.reading == 0)


@pytest.mark.parametrize("maybe_stored", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
async def test_a_call_that_may_have_been_stored_is_repeated_only_with_a_key(
    http: httpx2.AsyncClient,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    maybe_stored: bool,
    keyed: bool,
) -> None:
    async def away(append: object) -> None:
        raise StoreUnavailable("Postgres can't be reached", maybe_stored)

    monkeypatch.setattr(bench.store, "append", away)
    answered = await chat(http, KEY if keyed else None)
    assert (answered.status_code, answered.json()["error"]["code"]) == (503, "store_unavailable")
    again = answered.headers.get("retry-after"), answered.headers.get("x-should-retry")
    assert again == ((None, "false") if maybe_stored and not keyed else ("1", None))


async def test_a_stream_that_can_not_be_read_may_be_asked_for_again(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    bench.streams.unavailable_after = -1
    keyed = await chat(http, KEY)
    assert (keyed.status_code, keyed.headers["retry-after"]) == (503, "1")
    assert "x-should-retry" not in keyed.headers


async def test_a_question_leaves_a_line_with_its_trace(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "thalweg.gateway"):
        answered = await chat(http, KEY)
        await chat(http, KEY)
    told = [vars(one) for one in caplog.records if one.message == "an answer was asked for"]
    assert [one["repeated"] for one in told] == [False, True]
    assert all(one["answer"] in answered.headers["location"] for one in told)
