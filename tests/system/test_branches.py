"""Branches, system messages and a deletion through real servers, with an engine whose words are
known: " 0 1 2...". What the model was told is read from the engine itself."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.fixtures.numbered_process import NumberedEngine
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg
from tests.system.conftest import client


@pytest.fixture
def http(numbered: RunningThalweg) -> Iterator[httpx2.Client]:
    with client(numbered) as http:
        yield http


class Talk:
    """A conversation, as a client holds it."""

    def __init__(self, http: httpx2.Client, **body: Any) -> None:
        self.http = http
        started = http.post("/api/conversations", json=body)
        assert started.status_code == 201, started.text
        self.started: dict[str, Any] = started.json()
        self.id: str = self.started["conversation"]
        self.path = f"/api/conversations/{self.id}"

    def send(self, where: str, status: int = 202, **body: Any) -> dict[str, Any]:
        answered = self.http.post(f"{self.path}/{where}", json=body)
        assert answered.status_code == status, answered.text
        sent: dict[str, Any] = answered.json()
        return sent

    def post(self, content: str, parent: str | None, **more: Any) -> dict[str, Any]:
        return self.send("messages", content=content, parent=parent, **more)

    def heard(self, answer: str) -> tuple[str, dict[str, Any]]:
        """The whole text of an answer, and its end."""
        text = ""
        with self.http.stream("GET", f"/api/answers/{answer}/stream") as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    entry = json.loads(line.removeprefix("data: "))
                    text += entry["text"]
                    if "kind" in entry:
                        return text, entry
        raise AssertionError(f"the stream of {answer} ended without an end: {text!r}")

    def begins(self, answer: str) -> None:
        """Waits for the first chunk."""
        with self.http.stream("GET", f"/api/answers/{answer}/stream") as stream:
            for line in stream.iter_lines():
                if line.startswith("event: "):
                    assert line == "event: chunk"
                    return
        raise AssertionError(f"the stream of {answer} ended without a chunk")

    def log(self) -> list[dict[str, Any]]:
        """The stream of the conversation, as an auditor reads it."""
        answered = self.http.get(f"/api/streams/{self.id}")
        assert answered.status_code == 200, answered.text
        return [json.loads(line) for line in answered.text.splitlines()]


def numbers(count: int) -> str:
    return "".join(f" {k}" for k in range(count))


def test_an_edit_while_an_answer_runs_and_back_to_the_first_branch(
    http: httpx2.Client, engine: NumberedEngine
) -> None:
    talk = Talk(http)
    first = talk.post("tokens=40 delay_ms=30", None)
    talk.begins(first["answer"])
    edit = talk.post("edited tokens=3", None, edits=first["message"])
    assert talk.heard(edit["answer"])[0] == numbers(3)
    text, end = talk.heard(first["answer"])  # it went on, to its own end
    assert (text, end["kind"]) == (numbers(40), "finish")
    talk.send("head", 200, head=first["answer"])
    onward = talk.post("onward tokens=2", first["answer"])  # perhaps before the end is recorded
    assert talk.heard(onward["answer"])[0] == numbers(2)
    prompt = engine.calls()["prompt"]
    assert "edited" not in prompt
    assert prompt.index("tokens=40") < prompt.index(numbers(40)) < prompt.index("onward")
    stale = http.post(f"{talk.path}/messages", json={"content": "Hi", "parent": edit["answer"]})
    assert (stale.status_code, stale.json()["code"]) in (
        (409, "stale_head"),
        (409, "answer_in_progress"),
    )


def test_an_answer_is_given_again_from_the_same_messages(
    http: httpx2.Client, engine: NumberedEngine
) -> None:
    talk = Talk(http)
    first = talk.post("again tokens=5", None)
    assert talk.heard(first["answer"])[0] == numbers(5)
    prompt = engine.calls()["prompt"]
    again = talk.send("answers", parent=first["message"], max_tokens=4)  # at once after the end
    assert again["answer"] != first["answer"]
    text, end = talk.heard(again["answer"])
    assert (text, end["reason"]) == (numbers(4), "length")
    assert engine.calls()["prompt"] == prompt
    onward = talk.post("onward tokens=1", again["answer"])
    assert talk.heard(onward["answer"])[0] == numbers(1)
    prompt = engine.calls()["prompt"]
    assert numbers(4) in prompt
    assert numbers(5) not in prompt


def test_system_messages_reach_the_model_in_their_places(
    http: httpx2.Client, engine: NumberedEngine
) -> None:
    talk = Talk(http, system="Speak in numbers.")
    first = talk.post("tokens=2", talk.started["message"])
    assert talk.heard(first["answer"])[0] == numbers(2)
    told = talk.send(
        "messages", 201, content="Count slowly.", parent=first["answer"], role="system"
    )
    second = talk.post("more tokens=1", told["message"])
    assert talk.heard(second["answer"])[0] == numbers(1)
    prompt = engine.calls()["prompt"]
    places = [
        prompt.index(part)
        for part in (
            "<|system|>Speak in numbers.",
            "<|user|>tokens=2",
            f"<|assistant|>{numbers(2)}",
            "<|system|>Count slowly.",
            "<|user|>more tokens=1",
        )
    ]
    assert places == sorted(places)


def test_a_deletion_stops_every_answer_and_their_ends_are_recorded(
    http: httpx2.Client,
) -> None:
    talk = Talk(http)
    first = talk.post("tokens=3000 delay_ms=20", None)
    second = talk.post("tokens=3001 delay_ms=20", None, edits=first["message"])
    answers = {first["answer"], second["answer"]}
    for answer in answers:
        talk.begins(answer)
    assert http.delete(talk.path).status_code == 200
    shown = {answer: talk.heard(answer) for answer in answers}
    for text, end in shown.values():
        assert (end["kind"], end["reason"]) == ("cancelled", "cancelled")
        assert numbers(3_000).startswith(text)
        assert text

    def recorded() -> dict[str, str]:
        kind = "thalweg.conversations.answer_ended"
        ends = [event["data"] for event in talk.log() if event["type"] == kind]
        return {end["answer"]: end["text"] for end in ends if end["kind"] == "cancelled"}

    wait_for(lambda: set(recorded()) == answers, "the ends to be recorded")
    assert recorded() == {answer: text for answer, (text, _) in shown.items()}
    refused = http.post(f"{talk.path}/messages", json={"content": "Hi", "parent": second["answer"]})
    assert (refused.status_code, refused.json()["code"]) == (410, "conversation_deleted")
