"""The verbs of `thalweg` against a whole installation, and what keys of other tenants may not."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from infra.servers.ports import free_port
from tests.fixtures.processes import ROOT, wait_for
from tests.fixtures.thalweg import RunningThalweg
from tests.system.conftest import client

ASKED = {"model": "numbered", "messages": [{"role": "user", "content": "tokens=3"}]}


def line_of(thalweg: RunningThalweg, name: str, tenant: str) -> str:
    """The line of a key in the list."""
    listed = thalweg.cli("keys", "list", "--tenant", tenant)
    assert listed.returncode == 0, listed.stderr
    lines = [line for line in listed.stdout.splitlines() if name in line]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture
def http(numbered: RunningThalweg) -> Iterator[Any]:
    with client(numbered) as client_of_first_key:
        yield client_of_first_key


@pytest.fixture
def new_key(numbered: RunningThalweg) -> Callable[[str, str], str]:
    def create(name: str, tenant: str) -> str:
        made = numbered.cli("keys", "create", "--name", name, "--tenant", tenant)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    return create


def test_chat_shows_the_answer_while_it_is_said(numbered: RunningThalweg) -> None:
    asked = "tokens=60 delay_ms=30"
    with subprocess.Popen(
        [sys.executable, "-m", "infra.cli.main", "chat", asked],
        cwd=ROOT,
        env=numbered.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        first = os.read(process.stdout.fileno(), 64)
        assert process.poll() is None
        assert b" 0" in first
        assert b" 50" not in first
        rest = process.stdout.read()
    assert process.returncode == 0
    assert first + rest == "".join(f" {k}" for k in range(60)).encode() + b"\n"


def test_chat_says_why_there_is_no_answer(numbered: RunningThalweg) -> None:
    done = numbered.cli("chat", "--model", "other", "hello")
    assert done.returncode == 1
    assert "other" in done.stderr


def test_a_new_key_works_at_once_and_a_revoked_one_no_more(
    numbered: RunningThalweg, new_key: Callable[[str, str], str]
) -> None:
    name, tenant = f"test {uuid4()}", f"tenant {uuid4()}"
    key = new_key(name, tenant)
    with client(numbered, key) as http:
        assert http.get("/v1/models").status_code == 200
        line = line_of(numbered, name, tenant)
        assert " valid " in line
        assert key not in line
        assert name not in numbered.cli("keys", "list").stdout  # those of the default tenant
        revoked = numbered.cli("keys", "revoke", line.split()[0], "--tenant", tenant)
        assert revoked.returncode == 0, revoked.stderr
        wait_for(
            lambda: http.get("/v1/models").status_code == 401,
            "the revoked key to be refused",
        )
    assert " revoked " in line_of(numbered, name, tenant)


def test_an_unknown_key_cannot_be_revoked(numbered: RunningThalweg) -> None:
    for wrong in (str(uuid4()), "nonsense"):
        done = numbered.cli("keys", "revoke", wrong)
        assert done.returncode == 1
        assert done.stderr.strip()
        assert "Traceback" not in done.stderr


def test_what_belongs_to_another_tenant_is_not_found(
    numbered: RunningThalweg, http: Any, new_key: Callable[[str, str], str]
) -> None:
    conversation = http.post("/api/conversations", json={}).json()["conversation"]
    path = f"/api/conversations/{conversation}/messages"
    body = {"content": "tokens=50 delay_ms=20", "parent": None}
    posted = http.post(path, json=body, headers={"Idempotency-Key": "mine"}).json()
    stream = f"/api/answers/{posted['answer']}/stream"
    with client(numbered, new_key("theirs", f"other {uuid4()}")) as theirs:
        assert theirs.get("/v1/models").status_code == 200
        for open_or_ended in range(2):
            assert theirs.get(stream).status_code == 404, open_or_ended
            assert theirs.post(f"/api/answers/{posted['answer']}/cancel").status_code == 404
            more = {"content": "hello", "parent": posted["answer"] if open_or_ended else None}
            assert theirs.post(path, json=more).status_code == 404
            whole = http.get(stream).text  # to its end, before the second round
        # Keys belong to a tenant: the same one is theirs too, for another conversation.
        again = theirs.post("/api/conversations", json={}, headers={"Idempotency-Key": "mine"})
        assert again.status_code == 201
        assert again.json()["conversation"] != conversation
    assert '"kind":"finish"' in whole
    assert '49"' in whole


def test_fleet_shows_the_engine_and_every_worker(numbered: RunningThalweg, http: Any) -> None:
    roles = [part["role"] for part in json.loads(numbered.cli("ps", "--json").stdout)]
    workers = sum(role.startswith("answers") for role in roles)
    assert workers > 0

    def told() -> dict[str, Any] | None:
        done = numbered.cli("fleet", "--json")
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said if len(said["workers"]) == workers else None

    def shown() -> dict[str, Any] | None:
        page: dict[str, Any] = http.get("/api/fleet").json()
        return page if len(page["workers"]) == workers else None

    found = wait_for(told, "every worker to be heard")  # a report that is late is none
    (engine,) = found["engines"]
    assert engine["breaker"] == "closed"
    table = re.compile("Engines.*closed", re.DOTALL)
    wait_for(lambda: table.search(numbered.cli("fleet").stdout), "the table")
    page = wait_for(shown, "the gateway to have heard every worker")
    assert [one["name"] for one in page["engines"]] == ["1"]
    assert engine["name"] not in json.dumps(page)


def test_explain_tells_where_an_answer_waited_and_who_gave_it(
    numbered: RunningThalweg, http: Any
) -> None:
    asked = http.post("/v1/chat/completions", json=ASKED)
    assert asked.status_code == 200, asked.text
    answer = asked.json()["id"]

    def story() -> list[dict[str, Any]]:
        told = numbered.cli("explain", answer, "--json")
        assert told.returncode == 0, told.stderr
        return [json.loads(line) for line in told.stdout.splitlines()]

    wanted = ["answer_requested", "queued", "dispatched", "call_ended", "answer_ended"]
    wait_for(lambda: sorted(line["what"] for line in story()) == sorted(wanted), "its story")
    by_kind = {line["what"]: line["fields"] for line in story()}
    assert by_kind["dispatched"]["because"] == "only"
    assert by_kind["call_ended"]["outcome"] == "finished"
    told = numbered.cli("explain", answer).stdout
    assert "where 0 others waited" in told
    assert "ended: finish (stop)" in told
    nobody = numbered.cli("explain", str(uuid4()))
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert "There is no answer" in nobody.stderr


def test_doctor_finds_a_running_installation_well(numbered: RunningThalweg) -> None:
    done = numbered.cli("doctor")
    assert done.returncode == 0, done.stdout
    assert "wrong" not in done.stdout
    assert "the engine tgi+http://" in done.stdout


def test_doctor_names_an_engine_that_does_not_answer(numbered: RunningThalweg) -> None:
    nowhere = f"tgi+http://127.0.0.1:{free_port()}"
    done = numbered.cli("doctor", THALWEG_ENGINES=f"{numbered.env['THALWEG_ENGINES']},{nowhere}")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    wrong = [at for at, line in enumerate(lines) if line.startswith("wrong")]
    assert len(wrong) == 1
    assert nowhere in lines[wrong[0]]
    assert "THALWEG_ENGINES" in lines[wrong[0] + 1]
