"""Every role is restarted, one process after the other, as an operator does it: by SIGTERM."""

import asyncio
import signal

from tests.faults.world import World
from tests.fixtures.processes import alive

ROLES = ("gateway", "relay", "answers", "recorder", "projections")
REPLACED_SECONDS_MAX = 120


async def replaced(world: World, role: str, which: int) -> None:
    """Returns when another process does the work of this one, which has ended."""
    thalweg, number = world.thalweg, len(world.thalweg.pids(role))
    old = thalweg.signal(role, signal.SIGTERM, which=which)
    async with asyncio.timeout(REPLACED_SECONDS_MAX):
        while alive(old) or len(thalweg.pids(role)) < number:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def restarted_one_by_one(world: World) -> None:
    for _ in range(int(world.seconds(1, 3))):
        for role in ROLES:
            for which in range(len(world.thalweg.pids(role))):
                await replaced(world, role, which)
