"""The official OpenAI client on a whole installation: broken connections, and what is kept."""

import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from tests.fixtures.cutting_proxy import Cut, CuttingProxy, cutting_proxy
from tests.fixtures.numbered_process import NumberedEngine
from tests.fixtures.thalweg import RunningThalweg
from tests.system.test_openai import MODEL, numbers, said

LISTED_SECONDS_MAX = 60


@pytest.fixture
async def proxy(numbered: RunningThalweg) -> AsyncIterator[CuttingProxy]:
    port = urlsplit(numbered.url).port
    assert port is not None
    async with cutting_proxy(port) as proxy:
        yield proxy


@pytest.fixture
async def sdk(numbered: RunningThalweg, proxy: CuttingProxy) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{proxy.url}/v1", api_key=numbered.api_key, timeout=60
    ) as client:
        yield client


@pytest.mark.parametrize(
    ("cut", "stream"),  # the client does not repeat a stream that it has begun to read
    [
        *((cut, False) for cut in (Cut.BEFORE, Cut.DURING, Cut.HELD, Cut.AFTER)),
        *((cut, True) for cut in (Cut.BEFORE, Cut.HELD, Cut.AFTER)),
    ],
)
async def test_a_broken_connection_is_one_generation_and_the_whole_answer(
    sdk: openai.AsyncOpenAI, proxy: CuttingProxy, engine: NumberedEngine, cut: Cut, stream: bool
) -> None:
    before = engine.calls().get("generations", 0)
    proxy.cuts = [cut]
    asked: Any = {"model": MODEL, "messages": said(f"tokens=12 delay_ms=5 {cut.name} {stream}")}
    if stream:
        chunks = [one async for one in await sdk.chat.completions.create(stream=True, **asked)]
        text = "".join(one.choices[0].delta.content or "" for one in chunks)
        assert chunks[-1].choices[0].finish_reason == "stop"
    else:
        text = (await sdk.chat.completions.create(**asked)).choices[0].message.content
    assert text == numbers(12)
    assert engine.calls().get("generations", 0) == before + 1
    assert not proxy.cuts


async def test_what_was_said_is_kept_with_its_log_probabilities(sdk: openai.AsyncOpenAI) -> None:
    got = await sdk.chat.completions.create(
        model=MODEL,
        messages=said("tokens=3 kept"),
        logprobs=True,
        top_logprobs=2,
        service_tier="flex",
        metadata={"run": "kept"},
    )
    assert got.service_tier == "flex"
    logprobs = got.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [(one.token, one.logprob) for one in logprobs.content] == [
        (f" {k}", -0.5) for k in range(3)
    ]
    assert [top.token for top in logprobs.content[0].top_logprobs] == [" 0", " 1"]
    kept = await sdk.chat.completions.retrieve(got.id)
    assert (kept.choices, kept.usage, kept.created) == (got.choices, got.usage, got.created)
    assert kept.metadata == {"run": "kept"}
    messages = [one async for one in sdk.chat.completions.messages.list(got.id)]
    assert [one.content for one in messages] == ["tokens=3 kept"]


async def test_a_completion_is_listed_until_it_is_deleted(sdk: openai.AsyncOpenAI) -> None:
    run = {"run": "listed"}
    got = await sdk.chat.completions.create(
        model=MODEL, messages=said("tokens=2 listed"), metadata=run
    )
    hidden = await sdk.chat.completions.create(
        model=MODEL, messages=said("tokens=2 hidden"), metadata=run, store=False
    )
    await listed_as(sdk, run, [got.id])
    with pytest.raises(openai.NotFoundError):
        await sdk.chat.completions.retrieve(hidden.id)
    changed = await sdk.chat.completions.update(got.id, metadata={"run": "changed"})
    assert changed.metadata == {"run": "changed"}
    await listed_as(sdk, {"run": "changed"}, [got.id])
    assert (await sdk.chat.completions.delete(got.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await sdk.chat.completions.retrieve(got.id)
    await listed_as(sdk, {"run": "changed"}, [])


async def listed_as(sdk: openai.AsyncOpenAI, metadata: dict[str, str], ids: list[str]) -> None:
    """The list lags a moment: asked again until it is so, with a bound."""
    found: list[str] = []
    until = time.monotonic() + LISTED_SECONDS_MAX
    while time.monotonic() < until:
        found = [one.id async for one in sdk.chat.completions.list(metadata=metadata)]
        if found == ids:
            return
    raise AssertionError(f"{found} are listed, not {ids}")
