"""What readers see of conversations, on real servers: after writes, by search, on a feed."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from infra.servers.ports import free_port
from tests.fixtures.processes import Process, wait_for
from tests.fixtures.thalweg import RunningThalweg
from tests.system.conftest import client

SECONDS_MAX = 60


@pytest.fixture
def http(numbered: RunningThalweg) -> Iterator[httpx2.Client]:
    with client(numbered) as made:
        yield made


def begin(http: httpx2.Client, user: str) -> str:
    conversation: str = http.post("/api/conversations", json={"user": user}).json()["conversation"]
    return conversation


def turn(http: httpx2.Client, conversation: str, content: str, user: str) -> Any:
    """A first message, after the end of its answer was shown."""
    path = f"/api/conversations/{conversation}/messages"
    posted = http.post(path, json={"content": content, "parent": None, "user": user})
    assert posted.status_code == 202, posted.text
    http.get(f"/api/answers/{posted.json()['answer']}/stream")
    return posted.json()


def applied(http: httpx2.Client, path: str, **query: str) -> httpx2.Response:
    """A reading with `after`, asked for again while its read model is further behind than a reading
    waits for: a machine with much to do is late."""

    def read() -> httpx2.Response | None:
        response = http.get(path, params=query)
        late = response.status_code == 503 and response.json()["code"] == "not_applied_yet"
        return None if late else response

    return wait_for(read, "what was written to be read", seconds_max=SECONDS_MAX)


def ended(http: httpx2.Client, conversation: str) -> Any:
    """The conversation, once none of its answers is open."""

    def look() -> Any:
        shown = http.get(f"/api/conversations/{conversation}").json()
        return None if shown.get("answering", True) else shown

    return wait_for(look, "the end to be seen by readers", seconds_max=SECONDS_MAX)


def test_a_turn_is_read_in_lists_messages_search_and_usage(http: httpx2.Client) -> None:
    user, word = f"user {uuid4()}", f"w{uuid4().hex}"
    conversation = begin(http, user)
    posted = turn(http, conversation, f"tokens=5 {word}", user)
    after = posted["receipt"]
    page = applied(http, "/api/conversations", user=user, after=after)
    assert [one["conversation"] for one in page.json()["data"]] == [conversation]
    session = page.headers["x-read-token"]
    search = "/api/conversations/search"
    found = applied(http, search, q=word.upper(), user=user, after=session).json()
    [one] = found["data"]
    assert (one["conversation"], one["node"]) == (conversation, posted["message"])
    assert [one["excerpt"][start:end] for start, end in one["marks"]] == [word]
    shown = ended(http, conversation)
    assert (shown["messages"], shown["answers"], shown["unread"]) == (1, 1, 1)
    end = f"{conversation}:{shown['position']}"
    nodes = applied(http, f"/api/conversations/{conversation}/messages", after=end).json()
    answer, message = nodes["data"]
    assert (answer["node"], answer["status"]) == (posted["answer"], "finish")
    assert answer["text"] == " 0 1 2 3 4"
    assert message["text"] == f"tokens=5 {word}"
    used = applied(http, "/api/usage", user=user, after=end, by="user").json()
    [row] = used["data"]
    assert (row["completion_tokens"], row["finished"], row["user"]) == (5, 1, user)


class Feed:
    """A feed that is being read, frame by frame."""

    def __init__(self, response: httpx2.Response) -> None:
        self._lines = response.iter_lines()
        self.id = ""

    def next(self) -> tuple[str, Any]:
        fields = {"event": "", "data": ""}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if name == "id":
                self.id = value
            elif name in fields:
                fields[name] = value
            elif not line and fields["data"]:
                return fields["event"], json.loads(fields["data"])
        raise AssertionError("the feed ended")


@contextlib.contextmanager
def feed(http: httpx2.Client, after: str | None = None, **query: str) -> Iterator[Feed]:
    headers = {} if after is None else {"Last-Event-ID": after}
    with http.stream("GET", "/api/feed", params=query, headers=headers) as response:
        assert response.status_code == 200
        yield Feed(response)


@pytest.fixture
def other_gateway(numbered: RunningThalweg, tmp_path: Path) -> Iterator[httpx2.Client]:
    """A second gateway of the same installation."""
    port = free_port()
    gateway = Process(
        tmp_path / "gateway.log",
        "-m",
        "infra.cli.main",
        "run",
        "gateway",
        env={**numbered.env, "THALWEG_PORT": str(port)},
    )
    headers = {"Authorization": f"Bearer {numbered.api_key}"}
    with httpx2.Client(
        base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=SECONDS_MAX
    ) as made:

        def ready() -> bool:
            try:
                return made.get("/v1/models").status_code == 200
            except httpx2.HTTPError:
                return False

        try:
            wait_for(ready, "the second gateway to be ready", seconds_max=SECONDS_MAX)
            yield made
        finally:
            gateway.stop()


def test_a_feed_that_is_cut_goes_on_at_another_gateway_without_loss(
    http: httpx2.Client, numbered: RunningThalweg, other_gateway: httpx2.Client
) -> None:
    user = f"user {uuid4()}"
    conversation = begin(http, user)
    said: list[tuple[int, str]] = []
    with client(numbered) as reader, feed(reader, user=user, tokens="true") as opened:
        path = f"/api/conversations/{conversation}/messages"
        asked = http.post(path, json={"content": "tokens=60 delay_ms=20", "parent": None}).json()
        while len(said) < 5:
            event, data = opened.next()
            if event == "chunk":
                said.append((data["index"], data["text"]))
    renamed = begin(http, user)
    http.patch(f"/api/conversations/{renamed}", json={"title": "meanwhile"})
    changed: dict[str, Any] = {}
    with feed(other_gateway, after=opened.id, user=user, tokens="true") as again:
        ended = False
        while not (ended and changed.get(conversation, {}).get("answering") == []):
            event, data = again.next()
            if event == "conversation":
                changed[data["conversation"]] = data
            else:
                assert data["answer"] == asked["answer"]
                said.append((data["index"], data["text"]))
                ended = event == "end"
    assert [index for index, _ in said] == list(range(len(said)))
    assert "".join(text for _, text in said) == "".join(f" {k}" for k in range(60))
    assert changed[renamed]["title"] == "meanwhile"


def test_the_command_line_lists_shows_and_searches(numbered: RunningThalweg) -> None:
    word = f"w{uuid4().hex}"
    first = numbered.cli("chat", f"tokens=3 {word}")
    assert (first.returncode, first.stdout) == (0, " 0 1 2\n"), first.stderr
    conversation = first.stderr.split("--conversation ")[1].split()[0]
    again = numbered.cli("chat", "--conversation", conversation, "tokens=2")
    assert (again.returncode, again.stdout) == (0, " 0 1\n"), again.stderr

    def listed() -> bool:
        found = json.loads(numbered.cli("conversations", "list", "--json").stdout)
        return conversation in [one["conversation"] for one in found]

    wait_for(listed, "the conversation to be listed", seconds_max=SECONDS_MAX)
    assert word in numbered.cli("conversations", "list").stdout

    def shown() -> Any:
        found = json.loads(numbered.cli("conversations", "show", conversation, "--json").stdout)
        texts = [node["text"] for node in found["nodes"]]
        return texts if texts[-1] is not None else None

    texts = wait_for(shown, "the end to be seen by readers", seconds_max=SECONDS_MAX)
    assert texts == [f"tokens=3 {word}", " 0 1 2", "tokens=2", " 0 1"]
    assert f"tokens=3 {word}" in numbered.cli("conversations", "show", conversation).stdout
    found = json.loads(numbered.cli("conversations", "search", word, "--json").stdout)
    assert [one["conversation"] for one in found] == [conversation]
    assert word in numbered.cli("conversations", "search", word).stdout
    nothing = numbered.cli("conversations", "show", str(uuid4()))
    assert nothing.returncode == 1
    assert "no conversation" in nothing.stderr
