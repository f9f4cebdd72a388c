"""The way of a message through real servers, from a client's POST to the last token."""

import json
from typing import Any
from uuid import uuid4

import openai
import pytest

from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg
from tests.system.conftest import client

QUESTION = "What is a thalweg?"


@pytest.fixture
def http(thalweg: RunningThalweg) -> Any:
    with client(thalweg) as made:
        yield made


@pytest.fixture
def sdk(thalweg: RunningThalweg) -> Any:
    with openai.OpenAI(base_url=f"{thalweg.url}/v1", api_key=thalweg.api_key) as made:
        yield made


def events_of(body: str) -> list[dict[str, str]]:
    found = []
    for block in body.split("\n\n"):
        fields = [line.partition(":") for line in block.splitlines() if not line.startswith(":")]
        event = {name: value.removeprefix(" ") for name, _, value in fields}
        if "data" in event:
            found.append(event)
    return found


def ask(http: Any, content: str, **more: Any) -> dict[str, Any]:
    conversation = http.post("/api/conversations", json={}).json()["conversation"]
    body = {"content": content, "parent": None, **more}
    answered = http.post(f"/api/conversations/{conversation}/messages", json=body)
    assert answered.status_code == 202, answered.text
    posted: dict[str, Any] = answered.json()
    posted["location"] = answered.headers["location"]
    return posted


def test_the_official_client_streams_an_answer_of_the_demo_model(sdk: Any) -> None:
    model = sdk.models.list().data[0].id
    asked = [{"role": "user", "content": QUESTION}]
    pieces, finish = [], None
    for chunk in sdk.chat.completions.create(
        model=model, messages=asked, stream=True, temperature=0
    ):
        pieces.append(chunk.choices[0].delta.content or "")
        finish = chunk.choices[0].finish_reason or finish
    assert finish == "stop"
    assert len(pieces) > 3
    assert "river" in "".join(pieces).lower()
    whole = sdk.chat.completions.create(model=model, messages=asked, temperature=0)
    assert whole.choices[0].message.content == "".join(pieces)
    assert whole.usage.completion_tokens > 5


def test_a_conversation_goes_on_from_its_answer(http: Any) -> None:
    first = ask(http, QUESTION)
    assert http.get(first["location"]).status_code == 200
    path = f"/api/conversations/{first['conversation']}/messages"
    second = http.post(path, json={"content": "What is an event?", "parent": first["answer"]})
    assert second.status_code == 202, second.text
    stale = http.post(path, json={"content": "And a saga?", "parent": first["answer"]})
    assert stale.status_code == 409
    assert stale.headers["content-type"] == "application/problem+json"


def test_the_same_key_gives_the_same_turn_byte_for_byte(http: Any) -> None:
    body = {"model": "thalweg-demo", "messages": [{"role": "user", "content": QUESTION}]}
    body["model"] = http.get("/v1/models").json()["data"][0]["id"]
    headers = {"Idempotency-Key": uuid4().hex}
    for stream in (False, True):
        asked = {**body, "stream": stream}
        key = {"Idempotency-Key": headers["Idempotency-Key"] + str(stream)}
        first = http.post("/v1/chat/completions", json=asked, headers=key)
        again = http.post("/v1/chat/completions", json=asked, headers=key)
        assert first.status_code == 200, first.text
        assert first.content == again.content
        assert first.headers["location"] == again.headers["location"]
    other = {**body, "stream": True, "messages": [{"role": "user", "content": "Other?"}]}
    refused = http.post("/v1/chat/completions", json=other, headers=key)
    assert refused.status_code == 422


def test_a_stream_can_be_read_again_from_any_index(http: Any) -> None:
    posted = ask(http, QUESTION)
    whole = events_of(http.get(posted["location"]).text)
    assert [int(event["id"]) for event in whole] == list(range(len(whole)))
    assert whole[-1]["event"] == "end"
    for after in (0, len(whole) // 2, len(whole) - 2):
        rest = events_of(http.get(posted["location"], params={"starting_after": after}).text)
        assert rest == whole[after + 1 :]
        cursor = {"Last-Event-ID": str(after)}
        assert events_of(http.get(posted["location"], headers=cursor).text) == rest


def test_what_does_not_exist_is_not_found_and_needs_a_key(http: Any) -> None:
    for path in (f"/api/answers/{uuid4()}/stream", "/api/answers/nonsense/stream"):
        assert http.get(path).status_code == 404
        assert http.get(path, headers={"Authorization": "Bearer tw_wrong"}).status_code == 401


def test_an_answer_that_is_cancelled_ends_and_says_so(http: Any) -> None:
    conversation = http.post("/api/conversations", json={}).json()["conversation"]
    path = f"/api/conversations/{conversation}/messages"
    body = {"content": "Tell me the whole way of a message", "parent": None}
    posted = http.post(path, json=body).json()
    cancel = f"/api/answers/{posted['answer']}/cancel"
    assert http.post(cancel).status_code == 202
    assert http.post(cancel).status_code == 202
    end = json.loads(
        events_of(http.get(f"/api/answers/{posted['answer']}/stream").text)[-1]["data"]
    )
    assert end["kind"] in ("cancelled", "finish")
    more = {"content": QUESTION, "parent": posted["answer"]}

    def is_free() -> bool:
        status = http.post(path, json=more).status_code
        assert status in (202, 409)
        return bool(status == 202)

    wait_for(is_free, "the conversation to be free again")
