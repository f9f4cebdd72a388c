"""Faults that need no more than signals: kill -9, SIGSTOP and SIGCONT, again and again, to all."""

import asyncio
import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from tests.faults.case import Fault
from tests.faults.engines import Engines
from tests.faults.world import World

PAUSE_SECONDS = 5.0
"""Longer than the session timeout and the relay's lease: the paused one is replaced meanwhile."""
BACK_SECONDS_MAX = 120.0
FORKED_SECONDS = 0.05
"""A death is noticed and the next process forked within about that."""
STORM_PAUSE_SECONDS = (0.3, 1.5)
"""Between two kills of a storm: about as long as a worker takes to join."""


def killed(role: str) -> Fault:
    """kill -9 of one process of the role; whoever watches it starts it again."""

    async def fault(world: World) -> None:
        which = world.random.randrange(max(1, len(world.pids.get(role, ()))))
        pid = world.thalweg.signal(role, signal.SIGKILL, which=which)
        world.note(f"killed {role} {pid}")

    return fault


def killed_as_it_is_forked(role: str) -> Fault:
    """kill -9 of the role, and of the fork server while it makes the next one, or just before."""

    async def fault(world: World) -> None:
        world.thalweg.signal(role, signal.SIGKILL)
        await asyncio.sleep(world.random.uniform(0, FORKED_SECONDS))
        server = world.thalweg.signal("fork-server", signal.SIGKILL)
        world.note(f"killed {role} and the fork server {server}")

    return fault


def paused(role: str, seconds: float = PAUSE_SECONDS) -> Fault:
    """SIGSTOP of one process of the role and of its children, SIGCONT afterwards."""

    async def fault(world: World) -> None:
        thaw = world.thalweg.freeze(role)
        try:
            await asyncio.sleep(seconds)
        finally:
            thaw()

    return fault


def paused_together(roles: Sequence[str], seconds: float = PAUSE_SECONDS) -> Fault:
    """SIGSTOP of every process of these roles, SIGCONT afterwards: nobody replaces anybody."""

    async def fault(world: World) -> None:
        stopped = [pid for role in roles for pid in world.thalweg.pids(role)]
        try:
            _signal(stopped, signal.SIGSTOP)
            await asyncio.sleep(seconds)
        finally:
            _signal(stopped, signal.SIGCONT)

    return fault


async def killed_all(world: World) -> None:
    """Every role and server at once, only the supervisor lives."""
    for pids in world.pids.values():
        _signal(pids, signal.SIGKILL)


async def killed_with_the_supervisor(world: World) -> None:
    """`thalweg up` itself is killed, with everything below it, and is started again."""
    world.thalweg.kill_supervisor()
    await killed_all(world)
    await asyncio.to_thread(world.thalweg.start)


def storm(role: str, *, short: float, long: float) -> Fault:
    """One process of the role after the other is killed, as soon as it may have begun to work."""

    async def fault(world: World) -> None:
        until, kills = time.monotonic() + world.seconds(short, long), 0
        while time.monotonic() < until:
            pids = world.thalweg.pids(role)
            if pids:
                with suppress(ProcessLookupError):
                    os.kill(world.random.choice(pids), signal.SIGKILL)
                    kills += 1
            await asyncio.sleep(world.random.uniform(*STORM_PAUSE_SECONDS))
        world.note(f"{kills} kills")

    return fault


def engine_killed(model: str, *, away_seconds: float) -> Fault:
    """The first engine of the model dies, and is back after a while."""

    async def fault(world: World) -> None:
        engines: Engines = world.engines
        engines.kill(model)
        try:
            await asyncio.sleep(away_seconds)
        finally:
            engines.revive(model)

    return fault


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
