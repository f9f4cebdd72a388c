"""An engine that hangs when asked for its health: the probe has a bound, and is nobody else's."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web

from events.decisions import BreakerChanged, Decision
from infra.engines import openai, tgi
from infra.engines.openai import OpenAiEngine
from infra.engines.tgi import TgiEngine
from processors.answers.calls import Call, work_of
from processors.answers.dispatch import Dispatcher, DispatchLimits
from processors.answers.engine import EngineFailed, Token
from processors.answers.scheduling.breaker import BreakerLimits
from tests.contracts.engines.drive import PATIENT, AdapterType, prompt
from tests.contracts.engines.replay import Bytes, ReplayServer, Script
from tests.contracts.engines.test_broken_engines import endless
from tests.fixtures.numbered_engine import NumberedEngine
from tests.fixtures.numbered_faults import Fault, Faults
from tests.processors.answers.fakes import request

SECONDS_MAX = 9
"""Less than any other wait of an adapter: only the bound of a probe ends it in time."""
QUICK_SECONDS, NEVER_SECONDS = 0.1, 600.0
OPENED_BY_ONE = BreakerLimits(
    failures_in_a_row_max=1, pause_seconds=0.01, pause_seconds_max=0.05, slow_start_seconds=0.01
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"


def probes_take_at_most(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for adapter in (tgi, openai):
        monkeypatch.setattr(adapter, "HEALTH_SECONDS_MAX", seconds)


@pytest.mark.parametrize("adapter", [TgiEngine, OpenAiEngine])
@pytest.mark.parametrize(
    "script",
    [
        Bytes(b"", closes=False),
        Bytes(HEAD, closes=False),
        endless(b" ", head=HEAD, pause_seconds=0.01),
    ],
    ids=["silence", "a head", "a body without end"],
)
async def test_a_probe_that_hangs_is_no_health_within_its_bound(
    monkeypatch: pytest.MonkeyPatch, adapter: AdapterType, script: Script
) -> None:
    probes_take_at_most(monkeypatch, QUICK_SECONDS)
    async with ReplayServer() as server:
        server.routes |= {"/health": script, "/v1/models": script}
        path = "" if adapter is TgiEngine else "/v1"
        engine = adapter(server.url + path, PATIENT)
        async with asyncio.timeout(SECONDS_MAX):
            assert await engine.healthy() is False
            await server.gone.wait()  # the probe's connection is closed as well
        await engine.close()


class Engine(NumberedEngine):
    """Its /health says nothing while it is not well."""

    def __init__(self) -> None:
        super().__init__(tokens=3)
        self.well = asyncio.Event()
        self.probes = 0

    async def health(self, _: web.Request) -> web.Response:
        self.probes += 1
        await self.well.wait()
        return web.Response()


class Fleet:
    """Two engines whose breakers have opened. The first one's health hangs."""

    def __init__(self, engines: list[Engine], adapters: list[TgiEngine]) -> None:
        self.sick, self.other = engines
        self.names = [adapter.name for adapter in adapters]
        self.decisions: list[Decision] = []
        limits = DispatchLimits(breaker=OPENED_BY_ONE)
        self.dispatcher = Dispatcher(adapters, limits, decide=self.decisions.append)

    async def say(self) -> str | None:
        """The name of who spoke; None: an engine failed."""
        asked = prompt("tokens=3")
        call = Call(self.dispatcher, work_of(request(), asked, 60), asked)
        try:
            text = "".join([item.text async for item in call.tokens() if isinstance(item, Token)])
        except EngineFailed:
            return None
        assert text == " 0 1 2"
        return call.engine

    def probes_after_a_look(self) -> int:
        """A worker looks after its engines with each report, once a second, also without work."""
        self.dispatcher.report(0)
        return self.sick.probes

    def opened(self) -> set[str]:
        changes = [one for one in self.decisions if isinstance(one, BreakerChanged)]
        return {one.engine for one in changes if one.after == "open"}


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


@asynccontextmanager
async def an_ailing_fleet() -> AsyncIterator[Fleet]:
    engines, adapters = [Engine(), Engine()], []
    async with AsyncExitStack() as stack:
        for engine in engines:
            runner = web.AppRunner(engine.app(), access_log=None, handler_cancellation=True)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            adapters.append(TgiEngine(f"http://127.0.0.1:{runner.addresses[0][1]}", PATIENT))
            engine.fail_by(Faults((Fault.ERROR,)))
        engines[1].well.set()
        made = Fleet(engines, adapters)
        stack.push_async_callback(made.dispatcher.close)
        saying = asyncio.create_task(made.say())
        await until(lambda: len(made.opened()) == 2)
        for engine in engines:
            engine.fail_by(Faults())
        await saying
        yield made


async def test_an_engine_whose_probe_hangs_delays_no_other_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probes_take_at_most(monkeypatch, NEVER_SECONDS)
    async with an_ailing_fleet() as fleet:
        await until(lambda: fleet.sick.probes > 0)
        async with asyncio.timeout(SECONDS_MAX):
            assert [await fleet.say() for _ in range(3)] == [fleet.names[1]] * 3
        assert fleet.sick.probes == 1


async def test_a_probe_that_hung_is_followed_by_another_and_by_trust(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probes_take_at_most(monkeypatch, QUICK_SECONDS)
    async with an_ailing_fleet() as fleet:
        await until(lambda: fleet.probes_after_a_look() > 3)
        fleet.sick.well.set()
        async with asyncio.timeout(SECONDS_MAX):
            while await fleet.say() != fleet.names[0]:
                pass
