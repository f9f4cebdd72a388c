"""The official OpenAI client behind connections that break, on a whole installation: one turn, one
generation and the whole answer each time."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import aiohttp
import openai
import pytest

from tests.faults.engines import ALONE, Engines
from tests.faults.judge import take_census
from tests.faults.read_side import settings_of
from tests.fixtures.cutting_proxy import Cut, CuttingProxy, cutting_proxy
from tests.fixtures.thalweg import RunningThalweg

TOKENS = 30
WHOLE = "".join(f" {k}" for k in range(TOKENS))


@pytest.fixture
async def proxy(thalweg: RunningThalweg) -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy(thalweg.port) as proxy:
        yield proxy


@pytest.fixture
async def client(thalweg: RunningThalweg, proxy: CuttingProxy) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{proxy.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=thalweg.api_key, timeout=60) as client:
        yield client


async def generations(engines: Engines) -> int:
    """Of the engine that is alone with its model, ever."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{engines.address(ALONE)}/calls") as response,
    ):
        return int((await response.json()).get("generations", 0))


async def ask(client: openai.AsyncOpenAI, message: str, *, stream: bool, **more: Any) -> str:
    messages: Any = [{"role": "user", "content": message}]
    if not stream:
        got = await client.chat.completions.create(model=ALONE, messages=messages, **more)
        return got.choices[0].message.content or ""
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model=ALONE, messages=messages, stream=True, **more
        )
    ]
    assert chunks[-1].choices[0].finish_reason == "stop"
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


CUTS = [
    ([Cut.BEFORE], False),
    ([Cut.DURING], False),
    ([Cut.HELD], False),
    ([Cut.AFTER], False),
    ([Cut.BEFORE, Cut.HELD], False),
    ([Cut.BEFORE], True),
    ([Cut.HELD], True),
    ([Cut.AFTER], True),
    ([Cut.BEFORE, Cut.BEFORE], True),
]


@pytest.mark.parametrize(("cuts", "stream"), CUTS)
async def test_one_turn_and_one_generation_wherever_the_connection_breaks(
    thalweg: RunningThalweg,
    engines: Engines,
    client: openai.AsyncOpenAI,
    proxy: CuttingProxy,
    cuts: list[Cut],
    stream: bool,
) -> None:
    database = settings_of(thalweg).database_url("conversations")
    before, generated = take_census(database), await generations(engines)
    proxy.cuts = list(cuts)
    message = f"{uuid4().hex} tokens={TOKENS} delay_ms=5"
    assert await ask(client, message, stream=stream) == WHOLE
    assert await generations(engines) - generated == 1
    added = take_census(database) - before
    assert (added.conversations, added.answers) == (1, 1)


async def test_a_stream_that_breaks_in_its_middle_is_asked_for_again_and_said_once(
    thalweg: RunningThalweg, engines: Engines, client: openai.AsyncOpenAI, proxy: CuttingProxy
) -> None:
    database = settings_of(thalweg).database_url("conversations")
    before, generated = take_census(database), await generations(engines)
    proxy.cuts = [Cut.DURING]
    message = f"{uuid4().hex} tokens={TOKENS} delay_ms=20"
    with pytest.raises(openai.APIConnectionError):
        await ask(client, message, stream=True)
    again = {"x-stainless-retry-count": "1"}
    assert await ask(client, message, stream=True, extra_headers=again) == WHOLE
    assert await generations(engines) - generated == 1
    assert (take_census(database) - before).answers == 1
