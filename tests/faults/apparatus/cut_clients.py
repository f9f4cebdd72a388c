"""The official OpenAI client behind connections that break: one turn, one generation and the whole
answer each time. It gives no idempotency key; it only says that it repeats itself."""

import re
from typing import Any
from uuid import uuid4

import aiohttp
import openai

from tests.faults.engines import ALONE, Engines
from tests.faults.world import World
from tests.fixtures.cutting_proxy import Cut, cutting_proxy

TOKENS = 30
TAG = re.compile(r"@c\d+")
"""Behind each token: of which call of the engine it is."""
WHOLE = "".join(f" {k}" for k in range(TOKENS))
REPLY_SECONDS_MAX = 180
CUTS: list[tuple[list[Cut], bool]] = [
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
"""Where each connection in a row breaks, and whether the answer is streamed."""


async def generations(engines: Engines) -> int:
    """Of the engine that is alone with its model, ever. Nobody else may ask it meanwhile."""
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
    said = await client.chat.completions.create(model=ALONE, messages=messages, stream=True, **more)
    chunks = [chunk async for chunk in said]
    assert chunks[-1].choices[0].finish_reason == "stop"
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def is_whole(text: str) -> bool:
    """Every token once, and all of them of one call."""
    return TAG.sub("", text) == WHOLE and len(set(TAG.findall(text))) <= 1


async def cut_everywhere(world: World) -> None:
    """Each of CUTS, and a stream that breaks in its middle, whose user asks for it again."""
    thalweg, engines = world.thalweg, world.engines
    async with (
        cutting_proxy(thalweg.port) as proxy,
        openai.AsyncOpenAI(
            base_url=f"{proxy.url}/v1", api_key=thalweg.api_key, timeout=REPLY_SECONDS_MAX
        ) as client,
    ):
        for _ in range(int(world.seconds(1, 5))):
            for cuts, stream in CUTS:
                before = await generations(engines)
                proxy.cuts = list(cuts)
                world.started_conversation()
                text = await ask(client, _message(), stream=stream)
                told = f"{[cut.name for cut in cuts]}, streamed: {stream}"
                assert is_whole(text), f"{told}: {text}"
                assert await generations(engines) - before == 1, told
            world.started_conversation()
            await _cut_in_its_middle(client, proxy.cuts, engines)


async def _cut_in_its_middle(client: openai.AsyncOpenAI, cuts: list[Cut], engines: Engines) -> None:
    before, message = await generations(engines), _message()
    cuts.append(Cut.DURING)
    try:
        await ask(client, message, stream=True)
    except openai.APIConnectionError:
        pass  # the client does not repeat what it has begun to read; its user may, and say so
    else:
        raise AssertionError("a stream that broke was taken for a whole one")
    again = {"x-stainless-retry-count": "1"}
    text = await ask(client, message, stream=True, extra_headers=again)
    assert is_whole(text), text
    assert await generations(engines) - before == 1


def _message() -> str:
    return f"{uuid4().hex} tokens={TOKENS} delay_ms=5"
