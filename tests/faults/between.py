"""Kills between any two side effects: every failpoint that roles come by under load, one of each
role at once, round after round, while clients work. Which was to blame stands in the hits file."""

import asyncio
from collections.abc import Iterator
from itertools import zip_longest

from tests.faults.engines import TGI
from tests.faults.everyday import STREAMS_OF_A_DAY, everyday
from tests.faults.failpoints import Strike, arm, has_struck, strikes_of, strikes_told
from tests.faults.history import accepted_answers, ended_answers
from tests.faults.world import World

ROLES = ("gateway", "relay", "answers", "recorder", "projections")
STRUCK_SECONDS_MAX = 90
"""A process that starts beside four others takes some seconds, on a busy machine many."""
TURN_SECONDS_MAX = 90
"""A turn that takes longer than this under one kill of each role counts as lost."""


def rounds() -> Iterator[list[Strike]]:
    for together in zip_longest(*(strikes_of(role) for role in ROLES)):
        yield [strike for strike in together if strike is not None]


async def between_any_two(world: World) -> None:
    wrong: list[str] = []
    enough = asyncio.Event()

    async def live() -> None:
        """What the clients don't do, so that every failpoint is hit."""
        database = world.settings.database_url("conversations")
        while not enough.is_set():
            for _ in range(STREAMS_OF_A_DAY):
                world.started_conversation()
            wrong.extend(await everyday(world.thalweg, database, TGI))

    async with asyncio.TaskGroup() as group:
        group.create_task(live())
        for strikes in rounds():
            world.strike()
            await _strike(world, strikes)
            await _progress(world)
        enough.set()
    assert not wrong, wrong


async def _strike(world: World, strikes: list[Strike]) -> None:
    since = len(strikes_told(world.thalweg))
    for strike in strikes:
        await asyncio.to_thread(arm, world.thalweg, strike)
    for strike in strikes:
        await world.until(
            lambda strike=strike: has_struck(world.thalweg, strike, since),
            f"{strike} to strike",
            STRUCK_SECONDS_MAX,
        )


async def _progress(world: World) -> None:
    """All answers that were open have ended: none meets the kills of two rounds."""
    happenings = world.history.happenings
    wanted = accepted_answers(happenings) - ended_answers(happenings)
    await world.until(
        lambda: wanted <= ended_answers(happenings), f"{len(wanted)} answers", TURN_SECONDS_MAX
    )
