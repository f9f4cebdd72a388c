"""The supervisor with stand-in roles and a real Redis: starting, dying, restarting, stopping."""

import asyncio
import json
import os
import signal
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis

from infra.children import Backoff
from infra.home import HomeTaken, hold, read_state
from infra.supervisor import NotPrepared, Supervisor
from tests.fixtures.processes import Process, alive, wait_for
from tests.infra.supervise import ROLES, part, pid_of, started, supervisor, until

pytestmark = pytest.mark.slow


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Supervisor]:
    async with started(tmp_path) as one:
        yield one


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Process]:
    """The supervisor as a process of its own, ready."""
    process = Process(tmp_path / "up.log", "-m", "tests.infra.supervise", str(tmp_path / "home"))
    wait_for(lambda: "\nready\n" in process.log.read_text(), "the supervisor to be ready")
    yield process
    process.stop()


async def test_roles_begin_only_once_everything_is_prepared(tmp_path: Path) -> None:
    (tmp_path / "ran").mkdir()
    (tmp_path / "ran" / "prepare.fail").touch()
    with hold(tmp_path):
        one = supervisor(tmp_path)
        with pytest.raises(NotPrepared):
            await one.start()
        began = {path.name.partition(".")[0] for path in (tmp_path / "ran").iterdir()}
        await one.stop()
    assert began <= {"prepare", "engine"}  # the engine needs no server


async def test_state_names_every_process_and_servers_too(running: Supervisor) -> None:
    parts = read_state(running.settings.home)
    assert sorted(part.role for part in parts) == sorted(
        ["redis", "fork-server", "engine", "relay", "gateway", "answers", "answers"]
    )
    assert all(part.state == "running" and part.pid and alive(part.pid) for part in parts)
    assert next(part for part in parts if part.role == "gateway").ports == {
        "http": running.settings.port
    }
    mode = stat.S_IMODE((running.settings.home / "state.json").stat().st_mode)
    assert mode == 0o600


async def test_every_role_is_given_the_address_of_the_embedded_server(running: Supervisor) -> None:
    ran = running.settings.home / "ran"
    await until(lambda: len(list(ran.glob("gateway.*"))) == 1)
    told = [json.loads(path.read_text())["redis"] for path in ran.glob("gateway.*")]
    assert told == [running.settings.redis_url]


async def test_a_role_that_dies_is_started_again(running: Supervisor) -> None:
    first = pid_of(running, "relay")
    os.kill(first, signal.SIGKILL)
    await until(lambda: part(running, "relay").pid not in (None, first))
    assert alive(pid_of(running, "relay"))
    assert part(running, "relay").state == "running"


async def test_connections_wait_while_no_gateway_takes_them(running: Supervisor) -> None:
    first = pid_of(running, "gateway")
    os.kill(first, signal.SIGKILL)
    await until(lambda: not alive(first))
    _, writer = await asyncio.open_connection("127.0.0.1", running.settings.port)
    writer.close()


async def test_a_role_that_keeps_dying_is_tried_again_and_again(
    running: Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = running.settings.home / "ran"
    (ran / "relay.fail").touch()
    await until(lambda: len(list(ran.glob("relay.*"))) > 4)
    (ran / "relay.fail").unlink()
    told = capsys.readouterr().out
    assert told.count("relay ended (exit status 1): a made-up problem") >= 3
    await until(lambda: part(running, "relay").state == "running")


async def test_a_server_that_dies_is_started_again_with_its_address(running: Supervisor) -> None:
    first = pid_of(running, "redis")
    os.kill(first, signal.SIGKILL)
    await until(lambda: part(running, "redis").pid not in (None, first))
    with redis.Redis.from_url(running.settings.redis_url) as client:
        assert client.ping()


async def test_what_roles_write_is_kept_as_json_lines(running: Supervisor) -> None:
    log = running.settings.home / "logs" / "gateway.jsonl"
    await until(lambda: log.exists() and "gateway lives" in log.read_text())
    await running.stop()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["message"] for line in lines] == ["gateway lives", "told to stop"]


async def test_stopping_leaves_nothing(tmp_path: Path) -> None:
    async with started(tmp_path) as one:
        pids = [part.pid for part in one.parts if part.pid]
    assert len(pids) == len(ROLES) + 3
    assert not any(alive(pid) for pid in pids)
    assert {part.state for part in one.parts} == {"stopped"}


def test_no_child_outlives_a_killed_supervisor(tmp_path: Path, program: Process) -> None:
    state = tmp_path / "home"
    pids = [part.pid for part in read_state(state) if part.pid]
    assert len(pids) == len(ROLES) + 3
    wait_for((state / "ran" / f"answers.{pids[-1]}").exists, "the worker to work")
    os.kill(pids[-1], signal.SIGSTOP)  # a stopped one can't read its lifeline
    program.signal(signal.SIGKILL)
    wait_for(lambda: not any(alive(pid) for pid in pids), "the end of every child")
    assert read_state(tmp_path / "home") == []


async def test_the_start_after_a_kill_recovers(tmp_path: Path, program: Process) -> None:
    program.signal(signal.SIGKILL)
    program.wait(seconds_max=30)
    async with started(tmp_path / "home") as again:
        assert {part.state for part in again.parts} == {"running"}


def test_a_home_has_one_supervisor(tmp_path: Path, program: Process) -> None:
    with pytest.raises(HomeTaken, match=f"pid {program.pid}"), hold(tmp_path / "home"):
        pass


def test_restarts_come_at_once_then_ever_later_up_to_the_bound() -> None:
    backoff = Backoff(seconds_max=1)
    assert [backoff.after(0) for _ in range(6)] == [0, 0.25, 0.5, 1, 1, 1]
    assert backoff.after(3600) == 0
    assert [backoff.after(0) for _ in range(40)][-1] == 1


async def test_a_role_comes_back_even_if_its_state_can_not_be_written(
    running: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    pid = pid_of(running, "relay")
    with monkeypatch.context() as patch:
        patch.setattr("infra.supervisor.write_state", full)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: part(running, "relay").pid not in (None, pid))


async def test_a_watch_that_fails_is_told(
    running: Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    running._watch("a part", fails())
    await until(lambda: "a part is not watched" in capsys.readouterr().out)
