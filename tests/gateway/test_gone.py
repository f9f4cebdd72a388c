"""What was deleted, or has expired, is not to be read by an answer's id either."""

from typing import Any
from uuid import UUID

import httpx2
import pytest

from tests.gateway.fakes import MODEL, Bench
from tests.gateway.test_answers import asked, stream_of
from tests.gateway.test_expired import complete_unstored, let_keys_expire
from tests.gateway.test_stored_completions import HI, PATH, completed


async def answered_and_deleted(http: httpx2.AsyncClient, bench: Bench) -> dict[str, Any]:
    posted = await asked(http)
    await bench.end(posted["conversation"], posted["answer"])
    assert (await http.get(stream_of(posted))).status_code == 200
    deleted = await http.delete(f"/api/conversations/{posted['conversation']}")
    assert deleted.status_code == 200
    return posted


async def test_a_deleted_answer_is_not_there(http: httpx2.AsyncClient, bench: Bench) -> None:
    posted = await answered_and_deleted(http, bench)
    gone = await http.get(stream_of(posted))
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")
    feed = await http.get("/api/feed", params={"tokens": posted["answer"]})
    assert (feed.status_code, feed.json()["code"]) == (404, "not_found")


async def test_an_answer_that_a_deletion_stops_is_read_to_its_end(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    posted = await asked(http)
    await http.delete(f"/api/conversations/{posted['conversation']}")
    assert "event: end" in (await http.get(stream_of(posted))).text
    await bench.end(posted["conversation"], posted["answer"])
    assert "event: end" in (await http.get(stream_of(posted))).text
    bench.store.stopped_readable_seconds = 0
    assert (await http.get(stream_of(posted))).status_code == 404


@pytest.mark.parametrize("stream", [False, True])
async def test_a_deleted_completion_is_not_given_again(
    http: httpx2.AsyncClient, bench: Bench, stream: bool
) -> None:
    keyed = {"Idempotency-Key": "once"}
    body = {"model": MODEL, "messages": HI, "stream": stream}
    assert (await http.post(PATH, json=body, headers=keyed)).status_code == 200
    ref = bench.streams.refs[-1]
    await bench.end(str(ref.conversation), str(ref.answer))
    assert (await http.post(PATH, json=body, headers=keyed)).status_code == 200, "a repeat"
    assert (await http.delete(f"{PATH}/chatcmpl-{ref.answer.hex}")).status_code == 200
    again = await http.post(PATH, json=body, headers=keyed)
    assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found")


async def test_an_expired_completion_is_not_given_again(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    http.headers["Idempotency-Key"] = "once"
    body = {"model": MODEL, "messages": HI, "store": False}
    await completed(http, bench, store=False)
    assert (await http.post(PATH, json=body)).status_code == 200, "a repeat"
    let_keys_expire(bench.store)
    assert await bench.store.destroy_keys() == 1
    again = await http.post(PATH, json=body)
    assert (again.status_code, again.json()["error"]["code"]) == (410, "answer_expired")


async def test_a_feed_does_not_give_what_has_expired(
    http: httpx2.AsyncClient, stranger: httpx2.AsyncClient, bench: Bench
) -> None:
    _, answer = await complete_unstored(bench)
    let_keys_expire(bench.store)
    assert await bench.store.destroy_keys() == 1
    gone = await http.get("/api/feed", params={"tokens": str(answer)})
    assert (gone.status_code, gone.json()["code"]) == (410, "answer_expired")
    for other in (answer, UUID(int=7)):
        params = {"tokens": str(other)}
        assert (await stranger.get("/api/feed", params=params)).status_code == 404
