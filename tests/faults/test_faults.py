"""Kill or pause one process in the middle of answers: eight clients must lose nothing but time."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from infra.event_store import open_conversation_store
from infra.servers import resolve
from infra.settings import Settings
from tests.faults.clients import Client
from tests.faults.judge import judge
from tests.fixtures.processes import Process, free_port
from tests.fixtures.thalweg import RunningThalweg

CLIENTS = 8
PAUSE_SECONDS = 5
"""Longer than the session timeout and the relay's lease: the paused one is replaced meanwhile."""
MESSAGES = ["tokens=80 delay_ms=20", "tokens=40 delay_ms=20"]


class Engines:
    """Two engines that say numbered tokens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ports = [free_port(), free_port()]
        self.processes = [self._start(port) for port in self.ports]

    def _start(self, port: int) -> Process:
        log = self._folder / f"engine-{port}.log"
        return Process(log, "-m", "tests.fixtures.numbered_engine", "--port", str(port))

    def kill(self) -> None:
        self.processes[0].signal(signal.SIGKILL)
        self.processes[0].wait(seconds_max=10)

    def revive(self) -> None:
        self.processes[0] = self._start(self.ports[0])

    def stop(self) -> None:
        for process in self.processes:
            process.stop()

    @property
    def setting(self) -> str:
        return ",".join(f"tgi+http://127.0.0.1:{port}" for port in self.ports)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    engines = Engines(tmp_path_factory.mktemp("engines"))
    yield engines
    engines.stop()


@pytest.fixture(scope="module")
def thalweg(tmp_path_factory: pytest.TempPathFactory, engines: Engines) -> Iterator[RunningThalweg]:
    with RunningThalweg(tmp_path_factory.mktemp("faults"), engines=engines.setting) as running:
        yield running


async def run(thalweg: RunningThalweg, fault: Callable[[RunningThalweg], Awaitable[None]]) -> None:
    """Eight clients converse, the fault comes when all of them read; then everything is judged."""
    clients = [Client(thalweg.url, thalweg.api_key) for _ in range(CLIENTS)]
    conversations = [asyncio.create_task(client.converse(MESSAGES)) for client in clients]
    try:
        async with asyncio.timeout(30):
            await asyncio.gather(*(client.begun.wait() for client in clients))
        await fault(thalweg)
        await asyncio.gather(*conversations)
    finally:
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
    settings = resolve(Settings(home=thalweg.home))
    store = await open_conversation_store(settings.database_url("conversations"))
    try:
        turns = [turn for client in clients for turn in client.turns]
        assert len(turns) == CLIENTS * len(MESSAGES)
        assert await judge(store, turns) == []
    finally:
        await store.close()


class Fault:
    """What is done in the middle of the answers."""

    def __init__(self, role: str, *signals: signal.Signals) -> None:
        self._role, self._signals = role, signals

    async def __call__(self, thalweg: RunningThalweg) -> None:
        pid = thalweg.signal(self._role, self._signals[0])
        for number in self._signals[1:]:
            await asyncio.sleep(PAUSE_SECONDS)
            os.kill(pid, number)


ROLES = ("gateway", "relay", "answers", "recorder")


@pytest.mark.parametrize("role", ROLES)
async def test_kill_9_in_mid_answer_loses_nothing(thalweg: RunningThalweg, role: str) -> None:
    await run(thalweg, Fault(role, signal.SIGKILL))


@pytest.mark.parametrize("role", ROLES)
async def test_a_pause_longer_than_the_session_timeout_loses_nothing(
    thalweg: RunningThalweg, role: str
) -> None:
    await run(thalweg, Fault(role, signal.SIGSTOP, signal.SIGCONT))


async def test_kill_9_of_an_engine_continues_on_the_other(
    thalweg: RunningThalweg, engines: Engines
) -> None:
    async def kill(_: RunningThalweg) -> None:
        engines.kill()

    try:
        await run(thalweg, kill)
    finally:
        engines.revive()
