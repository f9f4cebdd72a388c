"""Answers of conversations that are not stored, once nobody can read them any more."""

from datetime import UTC, datetime
from uuid import UUID

import httpx2
import orjson
import pytest

from commands.conversations import CompleteOnce, complete_once
from events.envelope import Meta
from events.ids import AnswerId, ConversationId, fresh_id
from infra.event_store import MemoryStore
from tests.commands.examples import ask, new_message
from tests.gateway.fakes import MODEL, TENANT, Bench
from tests.gateway.test_answers import asked, stream_of


async def complete_unstored(bench: Bench) -> tuple[UUID, UUID]:
    """An answered call that is not stored: its conversation and answer."""
    conversation, answer = ConversationId(fresh_id()), AnswerId(fresh_id())
    command = CompleteOnce(conversation, (new_message(),), ask(answer), stored=False)
    meta = Meta(TENANT.tenant, str(answer), "key", "ada", datetime.now(UTC), fresh_id())
    await bench.commands.submit(
        conversation, lambda state: complete_once(state, command), meta, b"", new_stream=True
    )
    await bench.end(str(conversation), str(answer))
    return conversation, answer


def let_keys_expire(store: MemoryStore) -> None:
    store._keys = {stream: (key, 0) for stream, (key, _) in store._keys.items()}


async def test_an_answer_is_gone_with_its_key_even_if_redis_has_it(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    _, answer = await complete_unstored(bench)
    path = f"/api/answers/{answer}/stream"
    assert "event: end" in (await http.get(path)).text
    let_keys_expire(bench.store)
    assert await bench.store.destroy_keys() == 1
    gone = await http.get(path)
    assert gone.status_code == 410
    assert gone.headers["content-type"] == "application/problem+json"
    problem = gone.json()
    assert (problem["code"], problem["answer"]) == ("answer_expired", str(answer))
    assert "has expired" in problem["detail"]


async def test_what_is_stored_is_not_gone(http: httpx2.AsyncClient, bench: Bench) -> None:
    posted = await asked(http)
    await complete_unstored(bench)
    let_keys_expire(bench.store)
    await bench.store.destroy_keys()
    assert (await http.get(stream_of(posted))).status_code == 200


async def test_an_unstored_answer_cannot_be_read_in_what_is_stored(bench: Bench) -> None:
    conversation, _ = await complete_unstored(bench)
    kept = b"".join(one.state for one in bench.store.recorder.select_events(conversation))
    assert b"What is a thalweg?" not in kept
    assert b"Hello" not in kept


async def test_another_tenant_is_not_told_that_it_has_expired(
    stranger: httpx2.AsyncClient, bench: Bench
) -> None:
    _, answer = await complete_unstored(bench)
    let_keys_expire(bench.store)
    await bench.store.destroy_keys()
    assert (await stranger.get(f"/api/answers/{answer}/stream")).status_code == 404


async def test_a_stream_that_expires_under_its_reader_says_so(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    bench.streams.expired_after = 0
    posted = await asked(http)
    last = (await http.get(stream_of(posted))).text.split("\n\n")[-2]
    assert last.startswith("event: problem\ndata: ")
    assert orjson.loads(last.partition("data: ")[2])["code"] == "answer_expired"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_completion_that_has_expired_is_an_error_of_openai(
    http: httpx2.AsyncClient, bench: Bench, stream: bool
) -> None:
    bench.streams.expired_after = 0
    body = {"model": MODEL, "messages": [{"role": "user", "content": "?"}], "stream": stream}
    answered = await http.post("/v1/chat/completions", json=body)
    assert answered.status_code == (200 if stream else 410)
    text = answered.text.split("data: ")[-1] if stream else answered.text
    assert orjson.loads(text.strip())["error"]["code"] == "answer_expired"
    assert "[DONE]" not in answered.text
