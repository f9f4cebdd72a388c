"""Conversations on the native API."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from events.conversations import AnswerRequested, MessagePosted, Sampling
from tests.gateway.fakes import MODEL, TENANT, Bench, until

KEY = {"Idempotency-Key": "one-send"}


async def started(http: httpx2.AsyncClient) -> str:
    answered = await http.post("/api/conversations")
    assert answered.status_code == 201, answered.text
    conversation: str = answered.json()["conversation"]
    return conversation


async def post(
    http: httpx2.AsyncClient, conversation: str, headers: Any = None, **body: Any
) -> httpx2.Response:
    path = f"/api/conversations/{conversation}/messages"
    return await http.post(path, json={"content": "Hi", "parent": None, **body}, headers=headers)


async def test_a_conversation_is_started_with_a_receipt(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    answered = await http.post("/api/conversations", json={"user": "ann"})
    body = answered.json()
    assert answered.status_code == 201
    assert answered.headers["location"] == f"/api/conversations/{body['conversation']}"
    assert body["receipt"] == f"{body['conversation']}:1"
    [recorded] = bench.events(body["conversation"])
    assert recorded.meta.subject == "ann"
    assert recorded.meta.actor == str(TENANT.key)


async def test_a_message_is_accepted_with_the_answer_that_it_asked_for(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = await started(http)
    answered = await post(http, conversation, max_tokens=7, temperature=0, stop="END", seed=3)
    body = answered.json()
    assert answered.status_code == 202
    assert answered.headers["location"] == f"/api/answers/{body['answer']}/stream"
    assert body["receipt"] == f"{conversation}:3"
    _, posted, asked = (recorded.event for recorded in bench.events(conversation))
    assert isinstance(posted, MessagePosted)
    assert (str(posted.message), posted.content) == (body["message"], "Hi")
    assert isinstance(asked, AnswerRequested)
    assert (str(asked.answer), asked.model) == (body["answer"], MODEL)
    assert asked.sampling == Sampling(max_tokens=7, temperature=0, seed=3, stop=("END",))


async def test_the_same_key_gives_the_same_bytes_and_nothing_new(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    first = await http.post("/api/conversations", headers=KEY)
    again = await http.post("/api/conversations", headers=KEY)
    assert (first.status_code, first.content) == (again.status_code, again.content)
    conversation = first.json()["conversation"]
    key = {"Idempotency-Key": "another"}
    posted = await post(http, conversation, key)
    await bench.end(conversation, posted.json()["answer"])
    stored = bench.events_stored()
    # The conversation has gone on, but a repeat is not a conflict; the order of fields is nothing.
    path = f"/api/conversations/{conversation}/messages"
    reordered = b'{ "parent": null, "content": "Hi" }'
    repeated = await http.post(path, content=reordered, headers=key)
    assert (repeated.status_code, repeated.content) == (202, posted.content)
    assert repeated.headers["location"] == posted.headers["location"]
    assert bench.events_stored() == stored


async def test_the_same_key_with_another_body_or_route_is_an_error(
    http: httpx2.AsyncClient,
) -> None:
    conversation = await started(http)
    assert (await post(http, conversation, KEY)).status_code == 202
    other_body = await post(http, conversation, KEY, content="Bye")
    other_route = await post(http, await started(http), KEY)
    for answered in (other_body, other_route):
        assert answered.status_code == 422
        assert answered.json()["code"] == "idempotency_key_reused"


async def test_the_same_key_of_another_tenant_is_another_command(
    http: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    mine = await http.post("/api/conversations", headers=KEY)
    theirs = await stranger.post("/api/conversations", headers=KEY)
    assert theirs.status_code == 201
    assert mine.json()["conversation"] != theirs.json()["conversation"]


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "schl\u00fcssel"])
async def test_a_malformed_key_is_refused(http: httpx2.AsyncClient, key: str) -> None:
    answered = await http.post("/api/conversations", headers=[(b"Idempotency-Key", key.encode())])
    assert answered.status_code == 400
    assert "1 to 255 visible ASCII" in answered.json()["detail"]


async def test_a_message_to_a_stale_head_is_a_conflict_that_names_both(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = await started(http)
    posted = (await post(http, conversation)).json()
    meanwhile = await post(http, conversation, parent=posted["message"])
    assert (meanwhile.status_code, meanwhile.json()["code"]) == (409, "answer_in_progress")
    await bench.end(conversation, posted["answer"])
    stale = await post(http, conversation, parent=posted["message"])
    assert stale.status_code == 409
    assert stale.headers["content-type"] == "application/problem+json"
    assert stale.headers["x-should-retry"] == "false"
    problem = stale.json()
    assert problem["type"] == "urn:thalweg:problem:stale_head"
    assert (problem["title"], problem["status"]) == ("Stale head", 409)
    assert (problem["seen"], problem["head"]) == (posted["message"], posted["answer"])
    assert problem["instance"] == f"urn:thalweg:request:{stale.headers['x-request-id']}"
    assert (await post(http, conversation, parent=posted["answer"])).status_code == 202


async def test_who_has_seen_an_end_may_post_to_it_before_it_is_recorded(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = await started(http)
    posted = (await post(http, conversation)).json()
    seen = await http.get(f"/api/answers/{posted['answer']}/stream")
    assert "event: end" in seen.text
    waiting = asyncio.create_task(post(http, conversation, parent=posted["answer"]))
    await until(lambda: bench.models.asked == 2)
    assert not waiting.done()
    await bench.end(conversation, posted["answer"])
    assert (await waiting).status_code == 202


async def test_another_tenants_conversation_is_not_there(
    http: httpx2.AsyncClient, stranger: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = await started(http)
    theirs = await post(stranger, conversation)
    nobodys = await post(stranger, str(uuid4()))
    for answered in (theirs, nobodys):
        assert (answered.status_code, answered.json()["code"]) == (404, "conversation_not_found")
    assert len(bench.events(conversation)) == 1
    assert (await post(http, "not-an-id")).status_code == 404


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"content": "Hi"}', "parent"),
        (b'{"content": "", "parent": null}', "content"),
        (b'{"content": 1, "parent": null}', "content"),
        (b'{"content": "Hi", "parent": "x"}', "parent"),
        (b'{"content": "Hi", "parent": null, "n": 1}', "'n'"),
        (b'{"content": "Hi", "parent": null, "top_p": 0}', "top_p"),
        (b'{"content": "Hi", "parent": null, "max_tokens": 0}', "max_tokens"),
        (b'{"content": "Hi", "parent": null, "max_tokens": 99999}', "max_tokens"),
        (b'{"content": "Hi", "parent": null, "max_tokens": true}', "max_tokens"),
        (b'{"content": "Hi", "parent": null, "stop": ["a","b","c","d","e"]}', "stop"),
        (b'{"content": "\\ud800", "parent": null}', "surrogate"),
        (b'{"content": "\xed\xa0\x80", "parent": null}', "surrogate"),
        (b'["Hi"]', "object"),
        (b"{", "JSON"),
    ],
)
async def test_what_is_wrong_is_refused_by_its_name(
    http: httpx2.AsyncClient, bench: Bench, body: bytes, named: str
) -> None:
    conversation = await started(http)
    answered = await http.post(f"/api/conversations/{conversation}/messages", content=body)
    assert answered.status_code == 400, answered.text
    assert named in answered.json()["detail"]
    assert bench.events_stored() == 1


async def test_text_may_contain_anything_that_is_text(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = await started(http)
    text = "a\u0000b \U0001f30a \u2028 \ufffd\r\n"
    assert (await post(http, conversation, content=text)).status_code == 202
    assert bench.events(conversation)[1].event.content == text


async def test_an_unknown_model_is_named(http: httpx2.AsyncClient, bench: Bench) -> None:
    conversation = await started(http)
    unknown = await post(http, conversation, model="gpt-9")
    assert (unknown.status_code, unknown.json()["model"]) == (404, "gpt-9")
    bench.models.served = None  # no engine was ever seen: a message waits for one
    assert (await post(http, conversation)).json()["code"] == "no_model_known"
    assert (await post(http, conversation, model="gpt-9")).status_code == 202


async def test_the_trace_of_the_caller_goes_on_in_the_events(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01", "x-request-id": "req-7"}
    answered = await http.post("/api/conversations", headers=headers)
    assert answered.headers["x-request-id"] == "req-7"
    [recorded] = bench.events(answered.json()["conversation"])
    assert recorded.meta.traceparent.split("-")[1] == trace_id
    assert recorded.meta.traceparent != headers["traceparent"]
    other = await http.post("/api/conversations", headers={"traceparent": "x", "x-request-id": "?"})
    [recorded] = bench.events(other.json()["conversation"])
    assert recorded.meta.traceparent.startswith("00-")
    assert UUID(other.headers["x-request-id"])
