"""The official client behind a connection that breaks: one turn, and the whole answer."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.contracts.openai.test_official_client import HI, text_of
from tests.fixtures.cutting_proxy import Cut, CuttingProxy, cutting_proxy
from tests.gateway.fakes import API_KEY, MODEL, SECONDS_MAX, Bench, begun, spoken, until


@pytest.fixture
async def proxy(bench: Bench) -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy(bench.port) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: CuttingProxy) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{proxy.url}/v1", api_key=API_KEY, timeout=SECONDS_MAX
    ) as client:
        yield client


async def whole(client: openai.AsyncOpenAI, **more: Any) -> tuple[str, str]:
    got = await client.chat.completions.create(model=MODEL, messages=HI, **more)
    return got.id, got.choices[0].message.content or ""


async def streamed(client: openai.AsyncOpenAI, **more: Any) -> tuple[str, str]:
    stream = await client.chat.completions.create(model=MODEL, messages=HI, stream=True, **more)
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices[0].finish_reason == "stop"
    return chunks[0].id, text_of(chunks)


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.DURING, Cut.HELD, Cut.AFTER])
async def test_a_whole_answer_comes_in_one_turn_wherever_the_connection_breaks(
    client: openai.AsyncOpenAI, proxy: CuttingProxy, bench: Bench, cut: Cut
) -> None:
    proxy.cuts = [cut]
    assert (await whole(client))[1] == "Hello"
    assert proxy.responses == (1 if cut is Cut.AFTER else 2)
    assert len(bench.store.recorder.commands) == 1


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.HELD, Cut.AFTER])
async def test_a_stream_comes_in_one_turn_wherever_the_connection_breaks(
    client: openai.AsyncOpenAI, proxy: CuttingProxy, bench: Bench, cut: Cut
) -> None:
    proxy.cuts = [cut]
    assert (await streamed(client))[1] == "Hello"
    assert proxy.responses == (1 if cut is Cut.AFTER else 2)
    assert len(bench.store.recorder.commands) == 1


async def test_a_connection_that_breaks_twice_is_still_one_turn(
    client: openai.AsyncOpenAI, proxy: CuttingProxy, bench: Bench
) -> None:
    proxy.cuts = [Cut.BEFORE, Cut.HELD]
    assert (await whole(client))[1] == "Hello"
    assert proxy.responses == 3
    assert len(bench.store.recorder.commands) == 1


async def test_a_stream_that_breaks_in_its_middle_can_be_asked_for_again(
    client: openai.AsyncOpenAI, proxy: CuttingProxy, bench: Bench
) -> None:
    """The client itself does not repeat what it has begun to read; its user may, and say so."""
    bench.streams.script = begun("Hel")
    proxy.cuts = [Cut.DURING]
    with pytest.raises(openai.APIConnectionError):
        await streamed(client)
    await until(lambda: bench.streams.reading == 0)
    bench.streams.say(bench.streams.refs[0].answer, *spoken("Hel", "lo")[1:])
    id_, text = await streamed(client, extra_headers={"x-stainless-retry-count": "1"})
    assert text == "Hello"
    assert id_ == f"chatcmpl-{bench.streams.refs[0].answer.hex}"
    assert len(bench.store.recorder.commands) == 1


async def test_each_call_after_a_broken_one_is_a_turn_of_its_own(
    client: openai.AsyncOpenAI, proxy: CuttingProxy, bench: Bench
) -> None:
    proxy.cuts = [Cut.BEFORE]
    first, _ = await whole(client)
    second, _ = await whole(client)
    assert first != second
    assert len(bench.store.recorder.commands) == 2
