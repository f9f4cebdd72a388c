"""A whole installation from its start to its end, and to its next start."""

import json
import re
import signal
import stat
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.fixtures.numbered_process import NumberedEngine
from tests.fixtures.processes import alive, wait_for
from tests.fixtures.thalweg import RunningThalweg
from tests.system.conftest import client

SERVERS = ["postgres", "redis", "kafka", "engine", "fork-server"]
PARTS = Counter(
    [*SERVERS, "gateway", "relay", "recorder", "projections", "sagas", "answers", "answers"]
)
ORPHANS_SECONDS_MAX = 120
"""Servers of a killed supervisor are stopped in good order, and killed after 15 s."""
RESTARTED_SECONDS_MAX = 180


@pytest.fixture(scope="module")
def mortal(
    tmp_path_factory: pytest.TempPathFactory, engine: NumberedEngine
) -> Iterator[RunningThalweg]:
    """One that these tests stop and start."""
    home = tmp_path_factory.mktemp("mortal")
    with RunningThalweg(home, engines=f"tgi+http://{engine.address}") as running:
        yield running


class Kept:
    """What clients got before, and must get again."""

    def __init__(self, thalweg: RunningThalweg) -> None:
        self._thalweg = thalweg
        self._key = uuid4().hex
        with client(thalweg) as http:
            conversation = http.post("/api/conversations", json={}).json()["conversation"]
            self._path = f"/api/conversations/{conversation}/messages"
            self._posted = self._post(http)
            self._streamed = self._stream(http)
            self._completed = self._complete(http)
        assert b"event: end" in self._streamed

    def _post(self, http: Any) -> bytes:
        body = {"content": "tokens=12", "parent": None}
        answered = http.post(self._path, json=body, headers={"Idempotency-Key": self._key})
        assert answered.status_code == 202, answered.text
        return bytes(answered.content)

    def _stream(self, http: Any) -> bytes:
        answer = json.loads(self._posted)["answer"]
        return bytes(http.get(f"/api/answers/{answer}/stream").content)

    def _complete(self, http: Any) -> list[tuple[str, bytes]]:
        found = []
        for stream in (False, True):
            messages = [{"role": "user", "content": "tokens=9"}]
            body = {"model": "numbered", "messages": messages, "stream": stream}
            key = {"Idempotency-Key": f"{self._key}-{stream}"}
            answered = http.post("/v1/chat/completions", json=body, headers=key)
            assert answered.status_code == 200, answered.text
            found.append((answered.headers["location"], bytes(answered.content)))
        return found

    def check(self) -> None:
        """All of it is there, byte for byte."""
        with client(self._thalweg) as http:
            assert self._post(http) == self._posted
            assert self._stream(http) == self._streamed
            assert self._complete(http) == self._completed


def test_up_prints_an_address_a_key_and_a_curl_that_works_when_pasted(
    thalweg: RunningThalweg,
) -> None:
    log = thalweg.home / "up.log"
    wait_for(lambda: "Ctrl-C stops everything" in log.read_text(), "the welcome")
    told = log.read_text()
    assert f"Thalweg is ready: {thalweg.url}" in told
    assert f"API key: {thalweg.api_key} " in told
    curl = re.search(r"^  curl .*\\\n.*$", told, re.MULTILINE)
    assert curl is not None
    done = subprocess.run(
        ["bash", "-c", curl[0]], capture_output=True, text=True, timeout=60, check=True
    )
    frames = [line[6:] for line in done.stdout.splitlines() if line.startswith("data: ")]
    assert frames[-1] == "[DONE]"
    said = [json.loads(frame)["choices"][0]["delta"].get("content") for frame in frames[:-1]]
    assert "river" in "".join(piece or "" for piece in said).lower()


def test_ps_lists_every_server_and_role(thalweg: RunningThalweg) -> None:

    def all_running() -> list[dict[str, Any]] | None:
        """Answers can be given before the last role, which they don't need, has begun."""
        listed: list[dict[str, Any]] = json.loads(thalweg.cli("ps", "--json").stdout)
        assert all(set(one) == {"role", "pid", "ports", "state"} for one in listed)
        assert Counter(one["role"] for one in listed) == PARTS
        running = all(one["state"] == "running" and alive(one["pid"]) for one in listed)
        return listed if running else None

    listed = wait_for(all_running, "every part to run")
    ports = {one["role"]: one["ports"] for one in listed}
    assert ports["gateway"] == {"http": thalweg.port}
    assert all(ports[role] for role in ("postgres", "redis", "kafka", "engine"))


def test_what_is_secret_is_readable_by_its_owner_alone(thalweg: RunningThalweg) -> None:
    secret_files = [thalweg.home / name for name in ("api-key", "servers.json", "state.json")]
    secret_files.append(thalweg.home / "redis" / "redis.conf")
    for path in secret_files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_no_secret_is_in_an_argument_a_log_or_the_state(thalweg: RunningThalweg) -> None:
    with client(thalweg) as http:  # so that the logs are not empty of requests
        assert http.get("/v1/models").status_code == 200
    secrets = json.loads((thalweg.home / "servers.json").read_text())["secrets"]
    assert {"redis", "postgres", "postgres/conversations"} <= set(secrets)
    hidden = {**secrets, "api key": thalweg.api_key}
    logs = sorted((thalweg.home / "logs").iterdir())
    assert len(logs) >= len(PARTS)
    shown = {path.name: path.read_text(errors="replace") for path in logs}
    shown["state.json"] = (thalweg.home / "state.json").read_text()
    shown["ps"] = thalweg.cli("ps").stdout
    shown["arguments"] = "\n".join(thalweg.remains())
    assert "redis.conf" in shown["arguments"]
    for where, text in shown.items():
        for name, secret in hidden.items():
            assert secret not in text, f"{name} in {where}"


def test_two_installations_answer_side_by_side(
    thalweg: RunningThalweg, numbered: RunningThalweg
) -> None:
    for one, model in ((thalweg, "thalweg-demo"), (numbered, "numbered")):
        with client(one) as http:
            assert [served["id"] for served in http.get("/v1/models").json()["data"]] == [model]
            body = {"model": model, "messages": [{"role": "user", "content": "tokens=3"}]}
            answered = http.post("/v1/chat/completions", json=body)
            assert answered.status_code == 200, answered.text
            strange = {"Authorization": f"Bearer {numbered.api_key}"}
            refused = http.get("/v1/models", headers=strange).status_code
            assert refused == (200 if one is numbered else 401)


def test_ctrl_c_stops_everything_and_the_next_start_has_all_data(
    mortal: RunningThalweg, engine: NumberedEngine
) -> None:
    kept = Kept(mortal)
    assert mortal.interrupt() == 0
    assert mortal.remains() == []
    assert "Stopped." in (mortal.home / "up.log").read_text()
    generations = engine.calls()["generations"]
    mortal.start()
    kept.check()
    assert engine.calls()["generations"] == generations


def test_kill_9_of_the_supervisor_leaves_nothing_and_the_next_start_recovers(
    mortal: RunningThalweg, engine: NumberedEngine
) -> None:
    kept = Kept(mortal)
    mortal.kill_supervisor()
    wait_for(
        lambda: not mortal.remains(), "the end of all children", seconds_max=ORPHANS_SECONDS_MAX
    )
    assert json.loads(mortal.cli("ps", "--json").stdout) == []
    generations = engine.calls()["generations"]
    mortal.start()
    kept.check()
    assert engine.calls()["generations"] == generations


@pytest.mark.parametrize("role", ["gateway", "projections", "fork-server", "redis"])
def test_what_is_killed_is_started_again(mortal: RunningThalweg, role: str) -> None:
    before = mortal.signal(role, signal.SIGKILL)
    wait_for(
        lambda: [pid for pid in mortal.pids(role) if pid != before],
        f"another {role}",
        seconds_max=RESTARTED_SECONDS_MAX,
    )
    wait_for(lambda: ready(mortal), "answers to be ready", seconds_max=RESTARTED_SECONDS_MAX)


def ready(thalweg: RunningThalweg) -> bool:
    try:
        with urllib.request.urlopen(f"{thalweg.url}/readyz", timeout=2) as response:
            return bool(json.load(response)["answers"] == "ready")
    except OSError:
        return False
