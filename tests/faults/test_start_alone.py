"""Roles that start while servers are away: they wait, say so, and work once everything is there."""

import os
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import httpx2
import pytest

from infra.servers import EmbeddedServers
from infra.servers.ports import free_port
from infra.settings import Settings
from tests.faults.engines import Engines
from tests.fixtures.processes import Process, wait_for
from tests.fixtures.servers import shared_cache

LONG = os.environ.get("FAULTS_LONG") == "1"
SERVERS = ("postgres", "redis", "kafka")
ROLES = ("gateway", "relay", "answers", "recorder", "projections")
AWAY = [
    away
    for number in range(len(SERVERS), 0, -1)
    for away in combinations(SERVERS, number)
    if LONG or number == len(SERVERS)
]
SAYS_SO_SECONDS_MAX = 120
WORKS_SECONDS_MAX = 240
"""Five processes that import everything by themselves, beside other whole systems."""
NEEDED_AT_ONCE = {
    "gateway": {"postgres"},
    "relay": {"postgres"},
    "answers": {"postgres", "kafka"},
    "recorder": {"postgres", "kafka"},
    "projections": {"postgres", "kafka"},
}
"""What a role can't do anything without: it says so in its log."""


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[EmbeddedServers]:
    """Their addresses are known, and none runs."""
    embedded = EmbeddedServers(tmp_path / "home", cache=shared_cache())
    embedded.settle()
    yield embedded
    embedded.stop()


def prepared(servers: EmbeddedServers, env: dict[str, str], log: Path) -> None:
    """Schemas and topics are there from an earlier day; then nothing runs."""
    servers.start()
    one = Process(log, "-m", "infra.cli.main", "prepare", env=env)
    assert one.wait(seconds_max=WORKS_SECONDS_MAX) == 0, one.tail()
    servers.stop()


@pytest.mark.parametrize("away", AWAY, ids="+".join)
def test_roles_wait_for_what_is_away_and_come_up(
    servers: EmbeddedServers, engines: Engines, tmp_path: Path, away: tuple[str, ...]
) -> None:
    settings = servers.fill_in(Settings(home=servers.home, port=free_port()))
    env = {**settings.environment(), "THALWEG_ENGINES": engines.setting}
    prepared(servers, env, tmp_path / "prepare.log")
    there = [name for name in SERVERS if name not in away]
    if there:
        servers.start(*there)
    logs = {role: tmp_path / f"{role}.log" for role in ROLES}
    roles = {
        role: Process(logs[role], "-m", "infra.cli.main", "run", role, env=env) for role in ROLES
    }
    try:
        for role, process in roles.items():
            if NEEDED_AT_ONCE[role] & set(away):
                wait_for(
                    lambda log=logs[role]: "WARNING" in log.read_text().upper(),
                    f"a word of {role} that something is away",
                    seconds_max=SAYS_SO_SECONDS_MAX,
                )
            assert process.returncode is None, process.tail()
        servers.start(*away)
        wait_for(
            lambda: answers_ready(settings.port),
            "answers to be possible",
            seconds_max=WORKS_SECONDS_MAX,
        )
        assert [role for role, process in roles.items() if process.returncode is not None] == []
    except AssertionError as error:
        tails = "\n".join(f"--- {role}\n{process.tail()}" for role, process in roles.items())
        raise AssertionError(f"{error}\n{tails}") from None
    finally:
        for process in roles.values():
            process.stop()


def answers_ready(port: int) -> bool:
    try:
        found = httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=5).json()
    except (httpx2.HTTPError, ValueError):
        return False
    return bool(found["answers"] == "ready")
