"""The official client lists, reads, marks and deletes stored completions."""

from typing import Any

import openai
import pytest

from events.conversations import Usage
from tests.contracts.openai.test_official_client import HI
from tests.gateway.fakes import MODEL, Bench


async def made(sdk: openai.AsyncOpenAI, bench: Bench, **more: Any) -> Any:
    got = await sdk.chat.completions.create(model=MODEL, messages=HI, **more)
    ref = bench.streams.refs[-1]
    usage = Usage(prompt_tokens=3, completion_tokens=2)
    await bench.end(str(ref.conversation), str(ref.answer), usage=usage)
    return got


async def test_it_retrieves_what_it_created(sdk: openai.AsyncOpenAI, bench: Bench) -> None:
    got = await made(sdk, bench, metadata={"a": "b"}, service_tier="flex", store=True)
    kept = await sdk.chat.completions.retrieve(got.id)
    assert (kept.id, kept.created, kept.model) == (got.id, got.created, got.model)
    assert kept.choices == got.choices
    assert kept.usage == got.usage
    assert (kept.metadata, kept.service_tier) == ({"a": "b"}, "flex")


async def test_it_lists_all_pages(sdk: openai.AsyncOpenAI, bench: Bench) -> None:
    ids = [(await made(sdk, bench, metadata={"odd": str(n % 2)})).id for n in range(5)]
    await made(sdk, bench, store=False)
    assert [one.id async for one in sdk.chat.completions.list(limit=2)] == ids
    assert [one.id async for one in sdk.chat.completions.list(order="desc")] == ids[::-1]
    odd = sdk.chat.completions.list(metadata={"odd": "1"}, model=MODEL)
    assert [one.id async for one in odd] == ids[1::2]


async def test_it_marks_and_deletes(sdk: openai.AsyncOpenAI, bench: Bench) -> None:
    got = await made(sdk, bench)
    assert (await sdk.chat.completions.update(got.id, metadata={"c": "d"})).metadata == {"c": "d"}
    deleted = await sdk.chat.completions.delete(got.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (
        got.id, True, "chat.completion.deleted"
    )  # fmt: skip
    with pytest.raises(openai.NotFoundError):
        await sdk.chat.completions.retrieve(got.id)


async def test_it_reads_the_messages(sdk: openai.AsyncOpenAI, bench: Bench) -> None:
    got = await made(sdk, bench)
    messages = [one async for one in sdk.chat.completions.messages.list(got.id, limit=1)]
    assert [(one.id, one.role, one.content) for one in messages] == [(f"{got.id}-0", "user", "Hi")]
