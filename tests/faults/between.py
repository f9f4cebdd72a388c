"""Kills between any two side effects: every failpoint that roles come by under load. Each role goes
through its own, one after the other, all roles at once, while clients work. Which was to blame
stands in the hits file."""

import asyncio

from tests.faults.engines import TGI
from tests.faults.everyday import STREAMS_OF_A_DAY, everyday
from tests.faults.failpoints import Strike, arm, has_struck, strikes_of, strikes_told
from tests.faults.history import accepted_answers, ended_answers
from tests.faults.world import World

ROLES = ("gateway", "relay", "answers", "recorder", "projections", "sagas")
STRUCK_SECONDS_MAX = 300
"""A process that starts beside four others takes some seconds, on a busy machine many."""
TURN_SECONDS_MAX = 300
"""A turn that takes longer than this under one kill of each role counts as lost."""


async def between_any_two(world: World) -> None:
    wrong: list[str] = []

    async def live() -> None:
        """What the clients don't do, so that every failpoint is hit."""
        database = world.settings.database_url("conversations")
        while True:
            for _ in range(STREAMS_OF_A_DAY):
                world.started_conversation()
            wrong.extend(await everyday(world.thalweg, database, TGI))

    async with asyncio.TaskGroup() as group:
        living = group.create_task(live())
        async with asyncio.TaskGroup() as kills:
            for role in ROLES:
                kills.create_task(_kill_at_each(world, role))
        living.cancel()
    assert not wrong, wrong


async def _kill_at_each(world: World, role: str) -> None:
    for strike in strikes_of(role):
        world.strike()
        await _strike(world, strike)
        await _progress(world)


async def _strike(world: World, strike: Strike) -> None:
    since = len(strikes_told(world.thalweg))
    await asyncio.to_thread(arm, world.thalweg, strike)
    await world.until(
        lambda: has_struck(world.thalweg, strike, since), f"{strike} to strike", STRUCK_SECONDS_MAX
    )


async def _progress(world: World) -> None:
    """All answers that were open have ended: none meets two kills of one role."""
    happenings = world.history.happenings
    wanted = accepted_answers(happenings) - ended_answers(happenings)
    await world.until(
        lambda: wanted <= ended_answers(happenings), f"{len(wanted)} answers", TURN_SECONDS_MAX
    )
