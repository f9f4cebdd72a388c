"""Each role has a port for its figures; one that is taken is told, and stops nobody."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.home import read_state
from infra.metrics_ports import listener_or_none
from infra.servers.ports import LOCALHOST, free_port
from infra.settings import Settings
from tests.fixtures.ports import free_ports_in_a_row
from tests.fixtures.processes import Process, wait_for
from tests.infra.metrics.reading import Figures
from tests.infra.supervise import ROLES, part, pid_of, started, until


class Told:
    """A display that keeps what a person is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def state(self, name: str, state: str) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port where somebody else listens."""
    with socket.create_server((LOCALHOST, 0)) as somebody:
        yield somebody.getsockname()[1]


def test_a_port_that_is_taken_is_told_with_what_to_do(taken: int) -> None:
    told: list[str] = []
    assert listener_or_none(Settings(), taken, told.append) is None
    (sentence,) = told
    assert f"127.0.0.1:{taken}" in sentence
    assert f"ss -ltnp 'sport = :{taken}'" in sentence
    assert "THALWEG_METRICS_PORT" in sentence


@pytest.mark.slow
async def test_roles_have_ports_in_a_row_and_one_that_is_taken_stops_nobody(tmp_path: Path) -> None:
    first, told = free_ports_in_a_row(len(ROLES)), Told()
    with socket.create_server((LOCALHOST, first + ROLES.index("gateway"))):
        async with started(tmp_path, told, first) as one:
            shown = {each.role: each.ports for each in read_state(tmp_path) if each.role != "redis"}
            assert part(one, "relay").ports == {"metrics": first}
            assert part(one, "answers", 0).ports == {"metrics": first + 2}
            assert part(one, "answers", 1).ports == {"metrics": first + 3}
            assert part(one, "gateway").ports == {"http": one.settings.port}
            assert shown["relay"] == {"metrics": first}, "thalweg ps shows it"
            assert pid_of(one, "gateway")
            socket.create_connection((LOCALHOST, first)).close()
    (sentence,) = [each for each in told.said if "metrics" in each]
    assert f"127.0.0.1:{first + 1}" in sentence


@pytest.mark.slow
async def test_a_roles_port_stays_while_it_is_started_again(tmp_path: Path) -> None:
    first = free_ports_in_a_row(len(ROLES))
    async with started(tmp_path, Told(), first) as one:
        before = pid_of(one, "relay")
        os.kill(before, signal.SIGKILL)
        socket.create_connection((LOCALHOST, first)).close()  # it waits for the next life
        await until(lambda: part(one, "relay").pid not in (None, before))
        assert part(one, "relay").ports == {"metrics": first}


@pytest.mark.slow
@pytest.mark.parametrize("is_taken", [False, True])
def test_a_role_that_runs_alone_answers_whether_or_not_its_port_is_free(
    tmp_path: Path, taken: int, is_taken: bool
) -> None:
    """The local engine needs no server, so it stands for all of them."""
    port, metrics = free_port(), taken if is_taken else free_port()
    env = {
        "THALWEG_HOME": str(tmp_path),
        "THALWEG_ENGINE_PORT": str(port),
        "THALWEG_METRICS_PORT": str(metrics),
        "THALWEG_LOG_FORMAT": "json",
    }
    role = Process(tmp_path / "log", "-m", "infra.cli.run", "engine", env=env)
    try:
        wait_for(lambda: _answers(f"http://127.0.0.1:{port}/health"), "the role to answer")
        if is_taken:
            said = [json.loads(line) for line in role.log.read_text().splitlines()]
            (error,) = [line for line in said if line["level"] == "error"]
            assert f"127.0.0.1:{metrics}" in error["message"]
            assert "THALWEG_METRICS_PORT" in error["message"]
        else:
            url = f"http://127.0.0.1:{metrics}/metrics"
            with urllib.request.urlopen(url, timeout=30) as answered:
                seen = Figures.of(answered.read().decode())
            assert seen.value("process_resident_memory_bytes") > 0
        assert role.returncode is None
    finally:
        role.stop()


def test_a_role_without_metrics_imports_nothing_of_them() -> None:
    program = (
        "import sys; from infra.cli.run import import_roles; import_roles();"
        "print([name for name in sys.modules if name.startswith('prometheus_client')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name != "THALWEG_METRICS_PORT"},
    )
    assert run.stdout.strip() == "[]"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
