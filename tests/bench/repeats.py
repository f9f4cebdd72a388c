"""How often the engine speaks for one send that its client had to repeat."""

import asyncio

import aiohttp
import openai

from tests.bench import measure
from tests.bench.client import CHAT, Target
from tests.fixtures.cutting_proxy import Cut, cutting_proxy

TOKENS = 20
STILL_SECONDS = 1.0
"""An engine that is not asked for so long has nothing left to say from before."""
STILL_SECONDS_MAX = 180


async def repeated(target: Target, engine_port: int, *, sends: int) -> float:
    """Generations a send by the official client, whose connection breaks before the response."""
    before = await still(engine_port)
    async with (
        cutting_proxy(target.port) as proxy,
        openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=target.api_key) as client,
    ):
        for number in range(sends):
            proxy.cuts.append(Cut.BEFORE)
            content = f"tokens={TOKENS} delay_ms=0 send {number}"
            if target.path == CHAT:
                made = await client.chat.completions.create(
                    model=target.model,
                    messages=[{"role": "user", "content": content}],
                    extra_body=dict(target.extra),
                )
                text = made.choices[0].message.content or ""
            else:
                text = (
                    await client.responses.create(model=target.model, input=content, store=True)
                ).output_text
            if text.split() != [str(k) for k in range(TOKENS)]:
                raise measure.WrongAnswer(text)
    return (await generations_of(engine_port) - before) / sends


async def still(engine_port: int) -> int:
    """Its generations, once there are no more: clients that have gone cancel nothing."""
    async with asyncio.timeout(STILL_SECONDS_MAX):
        before, now = -1, await generations_of(engine_port)
        while now != before:
            await asyncio.sleep(STILL_SECONDS)
            before, now = now, await generations_of(engine_port)
    return now


async def generations_of(engine_port: int) -> int:
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{engine_port}/calls") as response,
    ):
        calls = await response.json()
    return int(calls.get("generations", 0))
