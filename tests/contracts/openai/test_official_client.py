"""What the official Python client makes of our wire. It is the judge of what is compatible."""

import asyncio
import json
from typing import Any
from uuid import UUID

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionUserMessageParam

from commands.errors import AnswerInProgress, StoreUnavailable
from events.conversations import EndKind
from tests.gateway.fakes import API_KEY, MODEL, SECONDS_MAX, TENANT, Bench, begun, spoken, until

HI: list[Any] = [ChatCompletionUserMessageParam(role="user", content="Hi")]


async def streamed(sdk: openai.AsyncOpenAI, **more: Any) -> list[ChatCompletionChunk]:
    stream = await sdk.chat.completions.create(model=MODEL, messages=HI, stream=True, **more)
    return [chunk async for chunk in stream]


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def some_pings(bench: Bench) -> None:
    seen = bench.streams.idles
    await until(lambda: bench.streams.idles >= seen + 3)


async def test_it_streams(sdk: openai.AsyncOpenAI, bench: Bench) -> None:
    bench.streams.script = spoken("Hé", "llo \U0001f30a", "\n\n", last="!")
    chunks = await streamed(sdk, stream_options={"include_usage": True})
    assert text_of(chunks) == "Hé" + "llo \U0001f30a" + "\n\n" + "!"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 6
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert all(chunk.to_dict() for chunk in chunks)


async def test_it_reads_a_whole_answer(sdk: openai.AsyncOpenAI) -> None:
    got = await sdk.chat.completions.create(model=MODEL, messages=HI)
    assert got.choices[0].message.content == "Hello"
    assert got.choices[0].finish_reason == "stop"
    assert got.usage is not None
    assert got.usage.prompt_tokens == 3


async def test_pings_between_the_frames_do_not_trouble_it(
    sdk: openai.AsyncOpenAI, bench: Bench
) -> None:
    bench.streams.script = []
    bench.streams.keepalive_seconds = 0.01
    stream = await sdk.chat.completions.create(model=MODEL, messages=HI, stream=True)
    answer = bench.streams.refs[0].answer

    async def speak() -> None:
        for entry in spoken("Hel", "lo"):
            await some_pings(bench)
            bench.streams.say(answer, entry)

    speaking = asyncio.create_task(speak())
    chunks = [chunk async for chunk in stream]
    await speaking
    assert text_of(chunks) == "Hello"


async def test_it_still_trips_over_what_we_do_not_send() -> None:
    """Why there is no `id:` on this face. When this fails, the client has learned to read it."""
    frames = b'id: 1\ndata: {"choices":[]}\n\n: ping\n\ndata: [DONE]\n\n'

    async def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=frames)

    http_client = openai.DefaultAsyncHttpxClient(transport=httpx2.MockTransport(answer))
    async with openai.AsyncOpenAI(
        base_url="http://x/v1", api_key="x", http_client=http_client
    ) as sdk:
        with pytest.raises(json.JSONDecodeError):
            await streamed(sdk)


async def test_the_synchronous_client_reads_pings_too(bench: Bench) -> None:
    bench.streams.script = begun("Hel")
    bench.streams.keepalive_seconds = 0.01

    def read() -> str:
        with openai.OpenAI(base_url=f"{bench.url}/v1", api_key=API_KEY) as client:
            stream = client.chat.completions.create(model=MODEL, messages=HI, stream=True)
            return text_of(list(stream))

    reading = asyncio.create_task(asyncio.to_thread(read))
    await until(lambda: bench.streams.reading == 1)
    await some_pings(bench)
    bench.streams.say(bench.streams.refs[0].answer, *spoken("Hel", "lo")[1:])
    assert await asyncio.wait_for(reading, SECONDS_MAX) == "Hello"


async def test_a_failed_answer_is_an_exception_and_never_a_short_success(
    sdk: openai.AsyncOpenAI, bench: Bench
) -> None:
    bench.streams.script = spoken("Hel", kind=EndKind.FAIL, reason="engine", error="It broke.")
    with pytest.raises(openai.APIError, match="It broke") as caught:
        await streamed(sdk)
    assert caught.value.code == "engine"
    with pytest.raises(openai.InternalServerError, match="It broke"):
        await sdk.with_options(max_retries=0).chat.completions.create(model=MODEL, messages=HI)


async def test_a_stream_that_cannot_be_read_on_is_an_exception(
    sdk: openai.AsyncOpenAI, bench: Bench
) -> None:
    bench.streams.unavailable_after = 0
    with pytest.raises(openai.APIError, match="nothing is lost"):
        await streamed(sdk)


async def test_errors_become_its_own_classes(sdk: openai.AsyncOpenAI) -> None:
    chat = sdk.chat.completions
    with pytest.raises(openai.NotFoundError) as unknown:
        await chat.create(model="gpt-9", messages=HI)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    assert unknown.value.request_id
    with pytest.raises(openai.BadRequestError) as refused:
        await chat.create(model=MODEL, messages=HI, n=2)
    assert (refused.value.param, refused.value.type) == ("n", "invalid_request_error")
    with pytest.raises(openai.AuthenticationError):
        await sdk.with_options(api_key="wrong").models.list()


async def test_a_conflict_is_not_repeated(
    sdk: openai.AsyncOpenAI, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []

    async def conflict(append: object) -> None:
        sent.append(append)
        raise AnswerInProgress(UUID(int=1), UUID(int=2))

    monkeypatch.setattr(bench.store, "append", conflict)
    with pytest.raises(openai.ConflictError):
        await sdk.chat.completions.create(model=MODEL, messages=HI)
    assert len(sent) == 1


@pytest.mark.parametrize(("maybe_stored", "sent_in_all"), [(True, 1), (False, 3)])
async def test_it_makes_no_second_turn_of_a_call_that_may_have_been_stored(
    sdk: openai.AsyncOpenAI,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    maybe_stored: bool,
    sent_in_all: int,
) -> None:
    sent = []

    async def lost(append: object) -> None:
        sent.append(append)
        raise StoreUnavailable("Postgres can't be reached", maybe_stored)

    monkeypatch.setattr(bench.store, "append", lost)
    with pytest.raises(openai.InternalServerError):
        await sdk.chat.completions.create(model=MODEL, messages=HI)
    assert len(sent) == sent_in_all


async def test_a_refusal_for_load_is_repeated_when_it_was_told_to(
    sdk: openai.AsyncOpenAI, bench: Bench
) -> None:
    bench.counts.fixed = {TENANT.tenant: 10_000}
    with pytest.raises(openai.RateLimitError) as refused:
        await sdk.with_options(max_retries=0).chat.completions.create(model=MODEL, messages=HI)
    assert refused.value.response.headers["retry-after-ms"] == "50"
    asking = asyncio.create_task(
        sdk.with_options(max_retries=1_000).chat.completions.create(model=MODEL, messages=HI)
    )
    asked = bench.models.asked
    await until(lambda: bench.models.asked >= asked + 3)  # refused a few times, 50 ms apart
    assert not asking.done()
    bench.counts.fixed = {}
    got = await asyncio.wait_for(asking, SECONDS_MAX)
    assert got.choices[0].message.content == "Hello"
    assert bench.events_stored() == 3


@pytest.mark.parametrize("stream", [True, False])
async def test_an_idempotency_key_makes_a_repeat_the_same_turn(
    sdk: openai.AsyncOpenAI, bench: Bench, stream: bool
) -> None:
    key = {"Idempotency-Key": "one-send"}
    raw = sdk.chat.completions.with_raw_response
    got = [
        await raw.create(model=MODEL, messages=HI, stream=stream, extra_headers=key)
        for _ in range(2)
    ]
    bodies = [await one.http_response.aread() for one in got]
    assert bodies[0] == bodies[1]
    assert got[0].headers["location"] == got[1].headers["location"]
    assert bench.events_stored() == 3
    with pytest.raises(openai.UnprocessableEntityError, match="already used"):
        await sdk.chat.completions.create(model=MODEL, messages=HI, seed=1, extra_headers=key)


async def test_it_lists_models(sdk: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in sdk.models.list()] == [MODEL, "org/other"]
    assert (await sdk.models.retrieve("org/other")).owned_by == "thalweg"


async def test_messages_that_it_returned_can_be_sent_back(sdk: openai.AsyncOpenAI) -> None:
    first = await sdk.chat.completions.create(model=MODEL, messages=HI)
    said: Any = first.choices[0].message.model_dump()  # with its nulls
    again = await sdk.chat.completions.create(model=MODEL, messages=[*HI, said, *HI])
    assert again.choices[0].message.content == "Hello"
