"""A server that is away for a while: killed again as often as the supervisor starts it."""

import asyncio
import os
import signal
import time
from contextlib import suppress

from tests.faults.apparatus.beside import stop
from tests.faults.apparatus.door import ready, refusals
from tests.faults.case import Fault
from tests.faults.world import World
from tests.fixtures.processes import alive
from tests.fixtures.thalweg import RunningThalweg

LOOK_SECONDS = 0.02


async def keep_away(thalweg: RunningThalweg, server: str, gone: asyncio.Event) -> None:
    """Kills each life of the server; `gone` is set after the first. Cancel it to let it live."""
    pid_file = thalweg.home / "run" / f"{server}.pid"
    while True:
        # an IndexError: its next life has made the file, and not written it yet
        with suppress(FileNotFoundError, ValueError, IndexError, ProcessLookupError):
            pid = int(pid_file.read_text().split()[0])
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
                gone.set()
        await asyncio.sleep(LOOK_SECONDS)


def away(server: str, short: float, long: float) -> Fault:
    """The server is away, and refuses connections. With Postgres there, commands are accepted."""

    async def fault(world: World) -> None:
        gone, seconds = asyncio.Event(), world.seconds(short, long)
        keeping = asyncio.create_task(keep_away(world.thalweg, server, gone))
        try:
            await gone.wait()
            if server == "postgres":
                await asyncio.sleep(seconds)
                return
            began = time.monotonic()
            refused = await refusals(world, seconds)
            assert not refused, f"without {server}: {refused[:3]}"
            status, body = await ready(world.thalweg)
            assert (status, body["commands"]) == (200, "ready"), body
            assert body["answers"] == "not ready", body
            world.note(f"{server} was away for {time.monotonic() - began:.0f} s")
        finally:
            await stop(keeping)

    return fault
