"""A conversation that is not stored: whole while its key lives, in clear nowhere, and then gone."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest
from redis import Redis

from infra.live_names import stream_name
from infra.servers import resolve
from infra.settings import Settings
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg
from tests.system.conftest import client
from tests.system.test_path import events_of

EXPIRE = "UPDATE conversations.content_keys SET expires_at = now() - interval '1 second'"
ENDED = '"thalweg.conversations.answer_ended"'
DESTROY = "UPDATE conversations.content_keys SET key = NULL WHERE stream = %s"


@pytest.fixture
def http(numbered: RunningThalweg) -> Iterator[httpx2.Client]:
    with client(numbered) as made:
        yield made


def start(http: httpx2.Client, words: str, *, stored: bool) -> str:
    body = {"stored": stored, "title": words, "metadata": {"about": words}}
    started = http.post("/api/conversations", json=body)
    assert started.status_code == 201, started.text
    return str(started.json()["conversation"])


def post(http: httpx2.Client, conversation: str, words: str, parent: str | None = None) -> str:
    body = {"content": f"tokens=6 {words}", "parent": parent}
    posted = http.post(f"/api/conversations/{conversation}/messages", json=body)
    assert posted.status_code == 202, posted.text
    return str(posted.json()["answer"])


def stream(http: httpx2.Client, answer: str) -> str:
    read = http.get(f"/api/answers/{answer}/stream")
    assert read.status_code == 200, read.text
    return read.text


def settings_of(thalweg: RunningThalweg) -> Settings:
    return resolve(Settings(home=thalweg.home))


def forget_live(thalweg: RunningThalweg, answer: str) -> None:
    """As when Redis has expired the stream."""
    with Redis.from_url(settings_of(thalweg).redis_url) as redis:
        redis.delete(stream_name("thalweg", answer))  # type: ignore[arg-type]


def files_with(folder: Path, words: bytes) -> list[str]:
    """The files below a folder that have these bytes."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and has(path, words)]


def has(path: Path, words: bytes) -> bool:
    try:
        return words in path.read_bytes()
    except OSError:  # a server has removed it meanwhile
        return False


def expire(thalweg: RunningThalweg) -> None:
    """Lets the time of every key run out."""
    with psycopg.connect(settings_of(thalweg).database_url("conversations")) as connection:
        connection.execute(EXPIRE)


def test_what_is_not_stored_is_read_while_its_key_lives_and_then_by_nobody(
    http: httpx2.Client, numbered: RunningThalweg
) -> None:
    words, kept = f"between us {uuid4()}", f"for the record {uuid4()}"
    conversation = start(http, words, stored=False)
    answer = post(http, conversation, words)
    live = stream(http, answer)
    said = [json.loads(event["data"])["text"] for event in events_of(live)]
    assert "".join(said).split() == ["0", "1", "2", "3", "4", "5"]
    second = post(http, conversation, words, answer)
    last = stream(http, second)

    forget_live(numbered, answer)
    assert stream(http, answer) == live, "from the event store, with the key, byte for byte"

    other = post(http, start(http, kept, stored=True), kept)
    stream(http, other)
    wait_for(lambda: files_with(numbered.home, kept.encode()), "words that are stored")
    assert files_with(numbered.home, words.encode()) == [], "not in Kafka, Postgres, Redis or a log"

    lines = http.get(f"/api/streams/{conversation}").text.splitlines()
    types = {json.loads(line)["type"]: json.loads(line) for line in lines}
    for name in ("conversation_started", "message_posted", "answer_ended"):
        assert types[f"thalweg.conversations.{name}"]["sealed"] is True
    assert types["thalweg.conversations.message_posted"]["data"]["content"] == ""

    assert stream(http, second) == last, "Redis has it still"
    recorded = f"/api/streams/{conversation}"  # each end is shown before, and renews the key
    wait_for(lambda: http.get(recorded).text.count(ENDED) == 2, "both ends to be recorded")
    expire(numbered)
    path = f"/api/answers/{second}/stream"
    wait_for(lambda: http.get(path).status_code == 410, "the key to be destroyed")
    for gone in (answer, second):
        refused = http.get(f"/api/answers/{gone}/stream")
        assert (refused.status_code, refused.json()["code"]) == (410, "answer_expired")
    body = {"content": "Are you there?", "parent": second}
    refused = http.post(f"/api/conversations/{conversation}/messages", json=body)
    assert (refused.status_code, refused.json()["code"]) == (410, "conversation_expired")
    assert http.get(f"/api/answers/{other}/stream").status_code == 200, "that one was stored"


def test_a_request_whose_key_is_gone_ends_and_says_so(
    http: httpx2.Client, numbered: RunningThalweg
) -> None:
    """The workers wake up after the key was destroyed: nobody waits for ever."""
    conversation = start(http, "x", stored=False)
    paused = numbered.pids("answers")
    for pid in paused:
        os.kill(pid, signal.SIGSTOP)
    try:
        answer = post(http, conversation, "y")
        with psycopg.connect(settings_of(numbered).database_url("conversations")) as connection:
            connection.execute(DESTROY, (conversation,))
    finally:
        for pid in paused:
            os.kill(pid, signal.SIGCONT)

    def end() -> dict[str, Any] | None:
        lines = http.get(f"/api/streams/{conversation}").text.splitlines()
        found = [json.loads(line) for line in lines if '"sealed"' in line]
        ends = [one["data"] for one in found if one["type"].endswith("answer_ended")]
        return ends[0] if ends else None

    ended = wait_for(end, "the end of the answer")
    assert (ended["answer"], ended["kind"], ended["reason"]) == (answer, "fail", "unreadable")
    assert http.get(f"/api/answers/{answer}/stream").status_code == 410
