"""The log of a whole installation: over HTTP, and by the verbs that operators use."""

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from infra.api_keys import tenant_named
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg
from tests.system.conftest import client


@pytest.fixture
def http(numbered: RunningThalweg) -> Iterator[httpx2.Client]:
    with client(numbered) as of_first_key:
        yield of_first_key


@pytest.fixture
def turn(http: httpx2.Client) -> dict[str, str]:
    """A conversation with one answer, whose end is recorded."""
    conversation = http.post("/api/conversations", json={}).json()["conversation"]
    posted = http.post(
        f"/api/conversations/{conversation}/messages", json={"content": "tokens=3", "parent": None}
    ).json()
    with http.stream("GET", f"/api/streams/{conversation}", params={"follow": "true"}) as lines:
        for line in lines.iter_lines():
            if line and json.loads(line)["type"].endswith("answer_ended"):
                break
    return {"conversation": conversation, "answer": posted["answer"]}


def topics_of(thalweg: RunningThalweg) -> dict[str, Any]:
    return {one["topic"]: one for one in json.loads(thalweg.cli("topics", "--json").stdout)}


def lines_of(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines() if line]


def kinds(lines: list[Any]) -> list[str]:
    return [line["type"].rpartition(".")[2] for line in lines]


TURN = ["conversation_started", "message_posted", "answer_requested", "answer_ended"]


def test_the_log_and_a_stream_say_the_same(http: httpx2.Client, turn: dict[str, str]) -> None:
    stream = lines_of(http.get(f"/api/streams/{turn['conversation']}").text)
    log = lines_of(http.get("/api/events", params={"stream": turn["conversation"]}).text)
    assert kinds(stream) == [*TURN, "ended"]
    assert stream[:-1] == log[:-1]
    assert stream[3]["data"]["text"] == " 0 1 2"
    assert (stream[-1]["data"]["next"], log[-1]["data"]["reason"]) == (5, "end")
    assert int(log[-1]["data"]["next"]) > int(log[3]["logposition"])


def test_what_is_not_stored_is_blank_in_the_log(http: httpx2.Client) -> None:
    conversation = http.post("/api/conversations", json={"stored": False}).json()["conversation"]
    path = f"/api/conversations/{conversation}/messages"
    posted = http.post(path, json={"content": "tokens=3 secret", "parent": None})
    assert '"kind":"finish"' in http.get(posted.headers["location"]).text
    text = http.get(f"/api/streams/{conversation}").text
    lines = lines_of(text)
    assert kinds(lines)[:3] == TURN[:3]
    assert (lines[1]["sealed"], lines[1]["data"]["content"]) == (True, "")
    assert "sealed" not in lines[2]  # it says nothing personal
    assert "secret" not in text


def test_the_log_of_accounts_has_the_key_that_reads_it(http: httpx2.Client) -> None:
    lines = lines_of(http.get("/api/events", params={"context": "accounts"}).text)
    assert kinds(lines)[:2] == ["tenant_created", "key_created"]
    assert {line["subject"] for line in lines[:-1]} == {str(tenant_named("default"))}


def test_a_follower_of_the_log_sees_a_turn_as_it_happens(http: httpx2.Client) -> None:
    end = lines_of(http.get("/api/events").text)[-1]["data"]["next"]
    asked = threading.Thread(
        target=lambda: http.post("/api/conversations", json={}, headers={"Idempotency-Key": key})
    )
    key = uuid4().hex
    with http.stream("GET", "/api/events", params={"from": end, "follow": "true"}) as following:
        asked.start()
        lines = (json.loads(line) for line in following.iter_lines() if line)
        # The end of another test's answer may be recorded by now, which was shown before.
        line = next(line for line in lines if line.get("command") == f"key:{key}")
    asked.join()
    assert line["type"] == "thalweg.conversations.conversation_started"


def test_replay_shows_the_events_and_the_state_at_a_time(
    numbered: RunningThalweg, http: httpx2.Client, turn: dict[str, str]
) -> None:
    stream = turn["conversation"]
    shown = numbered.cli("replay", stream)
    assert shown.returncode == 0, shown.stderr
    assert all(kind in shown.stdout for kind in TURN)
    as_json = numbered.cli("replay", stream, "--json")
    assert lines_of(as_json.stdout) == lines_of(http.get(f"/api/streams/{stream}").text)[:-1]
    asked_at = datetime.fromisoformat(lines_of(as_json.stdout)[2]["time"])
    state = json.loads(
        numbered.cli("replay", stream, "--at", asked_at.isoformat(), "--state", "--json").stdout
    )
    assert state["position"] == 3
    assert state["state"]["open_answers"] == [turn["answer"]]
    assert state["state"]["ends"] == {}
    now = json.loads(numbered.cli("replay", stream, "--state", "--json").stdout)
    assert now["state"]["open_answers"] == []
    assert now["state"]["ends"][turn["answer"]]["text"] == " 0 1 2"
    early = (asked_at - timedelta(days=1)).isoformat()
    assert numbered.cli("replay", stream, "--at", early).returncode == 1
    assert numbered.cli("replay", str(uuid4())).returncode == 1
    assert numbered.cli("replay", "nonsense").returncode == 2


def test_export_writes_the_log_and_goes_on_with_it(
    numbered: RunningThalweg, http: httpx2.Client, turn: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "events.ndjson"
    first = numbered.cli("export", "--out", str(out))
    assert first.returncode == 0, first.stderr
    assert "go on with --from" in first.stderr
    whole = lines_of(out.read_text())
    assert kinds([line for line in whole if line["subject"] == turn["conversation"]]) == TURN
    assert numbered.cli("export", "--out", str(out)).returncode == 2
    # A crash left half a line; then more happened.
    torn = out.read_bytes()[:-20]
    out.write_bytes(torn)
    http.post("/api/conversations", json={})
    resumed = numbered.cli("export", "--out", str(out), "--resume")
    assert resumed.returncode == 0, resumed.stderr
    again = lines_of(out.read_text())
    assert again[: len(whole)] == whole
    assert len(again) > len(whole)
    types = "thalweg.conversations.answer_ended"
    some = numbered.cli("export", "--type", types, "--stream", turn["conversation"])
    assert kinds(lines_of(some.stdout)) == ["answer_ended"]
    accounts = numbered.cli("export", "--context", "accounts", "--tenant", "default")
    assert kinds(lines_of(accounts.stdout))[0] == "tenant_created"
    assert numbered.cli("export", "--since", "2100-01-01").stdout == ""
    assert numbered.cli("export", "--type", "x").returncode == 2


def test_topics_tells_partitions_retention_sizes_and_lags(
    numbered: RunningThalweg, turn: dict[str, str]
) -> None:
    shown = numbered.cli("topics")
    assert shown.returncode == 0, shown.stderr
    assert "for ever" in shown.stdout
    told = topics_of(numbered)
    domain, tokens = told["thalweg.conversations"], told["thalweg.tokens"]
    assert {one["partitions"] for one in told.values()} == {16}
    assert domain["retention_seconds"] is None
    assert tokens["retention_seconds"] == 10 * 600 + 3_600
    assert domain["records"] >= 4
    assert domain["bytes"] > 1_000
    assert set(tokens["lags"]) == {"thalweg.recorder"}
    assert set(told["thalweg.answers.default"]["lags"]) == {"thalweg.answers"}
    assert "answers@1" in domain["lags"]
    assert tokens["lags"]["thalweg.recorder"] <= tokens["records"]

    def saga_is_up_to_date() -> bool:
        now = topics_of(numbered)["thalweg.conversations"]["lags"]
        return bool(now["thalweg.sagas.answers"] == 0)

    wait_for(saga_is_up_to_date, "the saga to have heard of everything")
