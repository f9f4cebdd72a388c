"""A cursor keeps: an answer's stream is the same, byte for byte, from any index, whatever has
happened since, at any gateway."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from signal import SIGKILL
from typing import Any

import httpx2
import psycopg
import pytest
import redis
from psycopg.sql import SQL, Identifier

from infra.servers import resolve
from infra.servers.ports import free_port
from infra.settings import Settings
from tests.fixtures.numbered_process import NumberedEngine
from tests.fixtures.processes import Process, wait_for
from tests.fixtures.thalweg import RunningThalweg
from tests.system.conftest import client

OPENING = b"retry: 1000\n\n"
LIVE_SECONDS_MAX = 60
LATE_SECONDS_MAX = 2
"""A lookup takes milliseconds. Whoever waits for what won't come waits for longer."""
LATE_MAX = 4
"""Of the readings of all answers from all their indexes: what one bug delays is more, as it delays
each answer or each index; what a busy machine delays is now one and now another."""
TABLES = "SELECT tablename FROM pg_tables WHERE tablename LIKE 'answers\\_v1%'"
REBUILT = "SELECT count(*) FROM answers_v1"
FORGET = SQL("DROP TABLE {}")


@dataclass
class Said:
    """One answer, and its stream as a client had it while it was being said."""

    name: str
    path: str
    live: bytes = b""
    frames: list[bytes] = field(default_factory=list)

    def listen(self, http: httpx2.Client) -> None:
        self.live = http.get(self.path).content
        begin, *frames = [frame + b"\n\n" for frame in self.live.split(b"\n\n")[:-1]]
        assert begin == OPENING
        self.frames = [frame for frame in frames if not frame.startswith(b":")]


def post(http: httpx2.Client, content: str, **more: Any) -> tuple[str, str]:
    conversation = http.post("/api/conversations", json={}).json()["conversation"]
    path = f"/api/conversations/{conversation}/messages"
    posted = http.post(path, json={"content": content, "parent": None, **more})
    assert posted.status_code == 202, posted.text
    return posted.json()["answer"], posted.headers["location"]


def heard(thalweg: RunningThalweg, name: str, ask: Callable[[httpx2.Client], str]) -> Said:
    """Asks, and listens from the first moment."""
    with client(thalweg) as http:
        said = Said(name, ask(http))
        said.listen(http)
    return said


def with_logprobs(http: httpx2.Client) -> str:
    asked = {
        "model": "numbered",
        "messages": [{"role": "user", "content": "tokens=6 delay_ms=15"}],
        "logprobs": True,
        "top_logprobs": 2,
        "stream": True,
    }
    with http.stream("POST", "/v1/chat/completions", json=asked) as response:
        assert response.status_code == 200, response.read()
        return str(response.headers["location"])  # and leaves: the answer goes on


def cancelled(http: httpx2.Client) -> str:
    answer, path = post(http, "tokens=2000 delay_ms=20")

    def cancel_after_some(key: str) -> None:
        with httpx2.Client(
            base_url=str(http.base_url), headers={"Authorization": key}, timeout=LIVE_SECONDS_MAX
        ) as other:
            with other.stream("GET", path) as response:
                lines = (line for line in response.iter_lines() if line.startswith("id:"))
                for _ in range(3):
                    next(lines)
            assert other.post(f"/api/answers/{answer}/cancel").status_code == 202

    key = http.headers["Authorization"]
    threading.Thread(target=cancel_after_some, args=(key,)).start()
    return path


ASKED: dict[str, Callable[[httpx2.Client], str]] = {
    "whole": lambda http: post(http, "tokens=5")[1],
    "one token": lambda http: post(http, "tokens=1")[1],
    "too long": lambda http: post(http, "tokens=9 delay_ms=10", max_tokens=4)[1],
    "with logprobs": with_logprobs,
    "with a seam": lambda http: post(http, "tokens=8 delay_ms=60 fail_after=3")[1],
    "cancelled": cancelled,
    "failed": lambda http: post(http, "tokens=8 delay_ms=15 fail_after=0")[1],
    "refused": lambda http: post(http, "invalid")[1],
}
SHOWS = {
    "whole": b'"kind":"finish","reason":"stop"',
    "one token": b'"completion_tokens":1',
    "too long": b'"reason":"length"',
    "with logprobs": b'"logprob":-0.5',
    "with a seam": b'"kind":"finish","reason":"stop"',
    "cancelled": b'"kind":"cancelled"',
    "failed": b'"kind":"fail"',
    "refused": b'"reason":"refused"',
}


@pytest.fixture(scope="module")
def thalweg(
    tmp_path_factory: pytest.TempPathFactory, engine: NumberedEngine
) -> Iterator[RunningThalweg]:
    """One of its own: its servers are emptied and killed."""
    home = tmp_path_factory.mktemp("cursors")
    with RunningThalweg(home, engines=f"tgi+http://{engine.address}") as running:
        yield running


@pytest.fixture(scope="module")
def servers(thalweg: RunningThalweg) -> Settings:
    """Where the servers of this installation are."""
    return resolve(Settings(home=thalweg.home))


@pytest.fixture(scope="module")
def answers(thalweg: RunningThalweg) -> list[Said]:
    return [heard(thalweg, name, ask) for name, ask in ASKED.items()]


def same_from_every_index(http: httpx2.Client, answers: list[Said]) -> None:
    late: list[str] = []
    for said in answers:
        for index in range(-1, len(said.frames)):
            asked = {} if index < 0 else {"last-event-id": str(index)}
            began = time.monotonic()
            response = http.get(said.path, headers=asked)
            where = f"{said.name}, after {index}"
            if time.monotonic() - began > LATE_SECONDS_MAX:
                late.append(where)
            if index == len(said.frames) - 1:
                assert response.status_code == 204, where
                assert response.content == b"", where
            else:
                assert response.status_code == 200, where
                assert response.content == OPENING + b"".join(said.frames[index + 1 :]), where
    assert len(late) <= LATE_MAX, late


def recorded(servers: Settings) -> int:
    with psycopg.connect(servers.database_url("projections")) as connection:
        try:
            row = connection.execute(REBUILT).fetchone()
        except psycopg.errors.UndefinedTable:
            return 0
        return int(row[0]) if row else 0


def flush(servers: Settings) -> None:
    with redis.Redis.from_url(servers.redis_url) as connection:
        connection.flushall()


def test_the_answers_are_what_they_should_be(answers: list[Said]) -> None:
    """Otherwise nothing below would prove much."""
    for said in answers:
        assert [int(frame.split(b"\n")[0][4:]) for frame in said.frames] == list(
            range(len(said.frames))
        )
        assert said.frames[-1].split(b"\n")[1] == b"event: end", said.name
        assert SHOWS[said.name] in said.live, said.name
    by_name = {said.name: said for said in answers}
    assert len(by_name["with a seam"].frames) > 2
    assert len(by_name["cancelled"].frames) > 3


def test_it_is_the_same_again_at_once(thalweg: RunningThalweg, answers: list[Said]) -> None:
    with client(thalweg) as http:
        same_from_every_index(http, answers)


def test_it_is_the_same_after_redis_has_lost_it(
    thalweg: RunningThalweg, servers: Settings, answers: list[Said]
) -> None:
    flush(servers)
    with client(thalweg) as http:
        same_from_every_index(http, answers)


def test_it_is_the_same_after_the_gateway_was_killed(
    thalweg: RunningThalweg, servers: Settings, answers: list[Said]
) -> None:
    flush(servers)
    killed = thalweg.signal("gateway", SIGKILL)
    wait_for(lambda: killed not in thalweg.pids("gateway"), "the gateway to be dead")
    wait_for(thalweg.is_ready, "another gateway")
    with client(thalweg) as http:
        same_from_every_index(http, answers)


def test_it_is_the_same_after_the_read_model_was_dropped_and_rebuilt(
    thalweg: RunningThalweg, servers: Settings, answers: list[Said]
) -> None:
    flush(servers)
    before = wait_for(lambda: recorded(servers), "the read model to know answers")
    thaw = thalweg.freeze("projections")
    try:
        with psycopg.connect(servers.database_url("projections"), autocommit=True) as connection:
            for (table,) in connection.execute(TABLES).fetchall():
                connection.execute(FORGET.format(Identifier(table)))
        with client(thalweg) as http:  # while it is not there, the event store serves
            same_from_every_index(http, answers)
    finally:
        thaw()
    killed = thalweg.signal("projections", SIGKILL)
    wait_for(lambda: killed not in thalweg.pids("projections"), "the projections to be dead")
    wait_for(lambda: recorded(servers) >= before, "the read model to be rebuilt")
    with client(thalweg) as http:
        same_from_every_index(http, answers)


def test_it_is_the_same_at_another_gateway(
    thalweg: RunningThalweg, servers: Settings, answers: list[Said]
) -> None:
    port = free_port()
    env = {**thalweg.env, **servers.environment(), "THALWEG_PORT": str(port)}
    log = thalweg.home / "second-gateway.log"
    gateway = Process(log, "-m", "infra.cli.main", "run", "gateway", env=env)
    headers = {"Authorization": f"Bearer {thalweg.api_key}"}
    try:
        with httpx2.Client(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=LIVE_SECONDS_MAX
        ) as http:
            wait_for(lambda: _answers(http), "the second gateway to answer")
            same_from_every_index(http, answers)
    finally:
        gateway.stop()


def _answers(http: httpx2.Client) -> bool:
    try:
        return http.get("/livez").status_code == 200
    except httpx2.TransportError:
        return False
