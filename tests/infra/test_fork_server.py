"""Roles that are forked: as exec would have made them, and whatever befalls the fork server."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from infra.children import Child, Surroundings
from infra.forks import FORK_SECONDS_MAX, FORK_SERVER, ForkServer, can_fork
from infra.home import read_state
from infra.servers.orphans import adopt_orphans, bury_orphans
from infra.supervisor import Supervisor
from tests.fixtures.processes import Process, alive, wait_for
from tests.infra.supervise import part, pid_of, settings, started, until

pytestmark = pytest.mark.slow

RESTARTS = 200
KILLS = 12
KILL_AFTER_SECONDS_MAX = 0.06
"""A role is forked, and begins, within about that."""


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Supervisor]:
    async with started(tmp_path) as one:
        await until(lambda: len(workers(one)) == len(ROLES_SEEN))
        yield one


ROLES_SEEN = ("engine", "relay", "gateway", "answers", "answers")


def ran(one: Supervisor) -> Path:
    return one.settings.home / "ran"


def about(one: Supervisor, role: str, pid: int | None = None) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((ran(one) / f"{role}.{pid or pid_of(one, role)}").read_text())
    return told


def workers(one: Supervisor) -> list[int]:
    """Every process that was ever told to work, and lives."""
    told = {int(path.suffix[1:]) for path in ran(one).glob("[a-z]*.[0-9]*")}
    return sorted(pid for pid in told if alive(pid))


def at_work(one: Supervisor) -> list[int]:
    """Those that the supervisor counts."""
    roles = ("engine", "relay", "gateway", "answers")
    return sorted(part.pid for part in one.parts if part.role in roles and part.pid)


async def next_of(one: Supervisor, role: str, before: int) -> dict[str, Any]:
    """What the life after that one says of itself."""
    await until(
        lambda: (
            part(one, role).pid not in (None, before)
            and (ran(one) / f"{role}.{part(one, role).pid}").exists()
        )
    )
    return about(one, role)


async def test_a_forked_role_is_as_exec_would_have_made_it(running: Supervisor) -> None:
    forked, executed = about(running, "relay"), about(running, "engine")
    assert (forked.pop("forked"), executed.pop("forked")) == (True, False)
    assert forked.pop("session") == pid_of(running, "relay")
    assert executed.pop("session") == pid_of(running, "engine")
    assert forked.pop("parent") == executed["parent"] == os.getpid()
    for same in ("redis", "signals", "descriptors"):
        assert forked[same] == executed[same], same


async def test_processes_tell_which_role_they_are(running: Supervisor) -> None:
    for role in ("relay", "gateway", "answers"):
        process = Path(f"/proc/{pid_of(running, role)}")
        command = (process / "cmdline").read_bytes().rstrip(b"\0").decode().split("\0")
        assert command == [sys.executable, "-m", "tests.infra.stand_in", role]
        assert (process / "comm").read_text().strip() == role
        home = f"THALWEG_HOME={running.settings.home}".encode()
        assert home in (process / "environ").read_bytes().split(b"\0")


async def test_siblings_never_make_the_same_id(running: Supervisor) -> None:
    told = [json.loads(path.read_text())["ids"] for path in ran(running).glob("[a-z]*.[0-9]*")]
    assert len(told) > len(ROLES_SEEN)  # `prepare` too
    for kind in zip(*told, strict=True):
        ends = [one[-12:] for one in kind]  # a UUIDv7 begins with the time
        assert len(set(ends)) == len(told)


async def test_its_death_disturbs_no_role_and_the_next_role_is_there_all_the_same(
    running: Supervisor,
) -> None:
    before, server = at_work(running), pid_of(running, FORK_SERVER)
    relay = pid_of(running, "relay")
    os.kill(server, signal.SIGKILL)
    os.kill(relay, signal.SIGKILL)
    said = await next_of(running, "relay", relay)
    assert said["forked"] is False
    await until(lambda: part(running, FORK_SERVER).pid not in (None, server))
    assert set(before) - set(at_work(running)) == {relay}
    assert workers(running) == at_work(running)


async def test_after_its_death_roles_are_forked_again(running: Supervisor) -> None:
    server = pid_of(running, FORK_SERVER)
    os.kill(server, signal.SIGKILL)
    await until(lambda: part(running, FORK_SERVER).pid not in (None, server))
    said: dict[str, Any] = {"forked": False}
    while not said["forked"]:
        relay = pid_of(running, "relay")
        os.kill(relay, signal.SIGKILL)
        said = await next_of(running, "relay", relay)


async def test_killed_at_any_moment_it_leaves_each_role_one_life(running: Supervisor) -> None:
    for number in range(KILLS):
        gateway = pid_of(running, "gateway")
        os.kill(gateway, signal.SIGKILL)
        await asyncio.sleep(KILL_AFTER_SECONDS_MAX * number / KILLS)
        with suppress(LookupError, AssertionError):
            os.kill(pid_of(running, FORK_SERVER), signal.SIGKILL)
        await next_of(running, "gateway", gateway)
        await until(lambda: part(running, FORK_SERVER).pid)
        assert workers(running) == at_work(running)


async def test_one_that_is_stopped_is_replaced_and_the_role_starts_by_itself(
    running: Supervisor,
) -> None:
    server, relay = pid_of(running, FORK_SERVER), pid_of(running, "relay")
    os.kill(server, signal.SIGSTOP)
    os.kill(relay, signal.SIGKILL)
    said = await next_of(running, "relay", relay)
    assert said["forked"] is False
    await until(lambda: part(running, FORK_SERVER).pid not in (None, server))
    assert FORK_SECONDS_MAX < 10, "this test would not notice"
    assert workers(running) == at_work(running)


async def test_exit_status_and_last_words_of_a_forked_role_are_told(
    running: Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert about(running, "relay")["forked"]
    (ran(running) / "relay.fail").touch()
    told = ""

    def is_told() -> bool:
        nonlocal told
        told += capsys.readouterr().out
        return "relay ended (exit status 1): a made-up problem" in told

    await until(is_told)


@pytest.mark.parametrize(
    ("file", "words"),
    [("imports.fail", "a made-up problem of imports"), ("imports.thread", "2 threads run")],
)
async def test_without_it_every_role_starts_by_itself(
    tmp_path: Path, file: str, words: str
) -> None:
    (tmp_path / "ran").mkdir()
    (tmp_path / "ran" / file).touch()
    async with started(tmp_path) as one:
        await until(lambda: len(workers(one)) == len(ROLES_SEEN))
        assert about(one, "relay")["forked"] is False
        assert words in (tmp_path / "logs" / f"{FORK_SERVER}.jsonl").read_text()


def test_forked_roles_end_with_a_killed_supervisor_even_stopped_and_the_server_too(
    tmp_path: Path,
) -> None:
    program = Process(tmp_path / "up.log", "-m", "tests.infra.supervise", str(tmp_path / "home"))
    try:
        wait_for(lambda: "\nready\n" in program.log.read_text(), "the supervisor to be ready")
        pids = {one.role: one.pid or 0 for one in read_state(tmp_path / "home")}
        at_work = tmp_path / "home" / "ran" / f"gateway.{pids['gateway']}"
        wait_for(at_work.exists, "the gateway to work")
        assert json.loads(at_work.read_text())["forked"]
        for role in ("gateway", FORK_SERVER):  # they can't read their lifelines
            os.kill(pids[role], signal.SIGSTOP)
        program.signal(signal.SIGKILL)
        wait_for(lambda: not any(alive(pid) for pid in pids.values()), "the end of every child")
    finally:
        program.stop()


async def test_no_descriptor_is_left_after_many_forks(tmp_path: Path) -> None:
    assert adopt_orphans(True)
    told: list[str] = []
    environment = {**os.environ, **settings(tmp_path).environment()}

    def nothing() -> None:
        return None

    around = Surroundings(
        environment,
        tmp_path / "logs",
        log_bytes_max=1_000_000,
        restart_delay_seconds_max=1,
        say=told.append,
        changed=nothing,
    )
    server = ForkServer("tests.infra.stand_in", around)
    keeping = asyncio.create_task(server.keep())

    async def run() -> None:
        role = Child("prepare", [], around, fork=lambda passed: server.fork("prepare", passed))
        role.go()
        assert await role.run_once() == 0
        role.close()

    await run()
    ours, its = Path("/proc/self/fd"), Path(f"/proc/{server.part.pid}/fd")
    before = len(os.listdir(ours)), len(os.listdir(its))
    for _ in range(RESTARTS):
        await run()
    # Fewer: something of an earlier test was closed. More, for a moment: somebody opens a file.
    await until(lambda: len(os.listdir(ours)) <= before[0] and len(os.listdir(its)) <= before[1])
    assert len(list((tmp_path / "ran").glob("prepare.*"))) == RESTARTS + 1
    await server.stop(5)
    await keeping
    server.close()
    assert adopt_orphans(False)
    assert told == []


def test_what_is_loaded_before_everything_keeps_roles_from_being_forked() -> None:
    assert can_fork({})
    assert not can_fork({"LD_PRELOAD": "libfaketime.so.1"})


async def test_orphans_are_buried_and_a_child_that_somebody_awaits_is_not() -> None:
    assert adopt_orphans(True)
    parent = await asyncio.create_subprocess_exec(
        "sh", "-c", "sleep 0.01 >&- & echo $!", stdout=asyncio.subprocess.PIPE
    )
    orphan = int((await parent.communicate())[0])
    burying = asyncio.create_task(bury_orphans(look_seconds=0.05))
    await until(lambda: not Path(f"/proc/{orphan}").exists())
    ours = await asyncio.create_subprocess_exec("sh", "-c", "exit 3")
    assert await ours.wait() == 3
    burying.cancel()
    assert adopt_orphans(False)
