"""Faults of engines that stay faults: each call, or a share of the calls, is struck for a while."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence

from tests.faults.case import Fault
from tests.faults.checker.text import TOKEN
from tests.faults.engines import OPENAI, TGI
from tests.faults.history import Kind
from tests.faults.world import World
from tests.fixtures import numbered_faults
from tests.fixtures.numbered_faults import Faults

MODELS = (TGI, OPENAI)
SECONDS = (3.0, 30.0)
"""How long engines are faulty: short form, long form."""
COME_SECONDS = 60.0
"""By then a call has come to a faulty engine, however slowly clients ask."""
AWAY_SECONDS = 0.5
LIVES_SECONDS = 1.5
"""Of an engine that is killed again and again: from its first breath to the next kill."""


async def standing(world: World) -> None:
    """Nothing else happens meanwhile."""
    await asyncio.sleep(world.seconds(*SECONDS))


def faulty(
    kinds: Sequence[numbered_faults.Fault],
    *,
    share: float = 1.0,
    everywhere: bool = False,
    meanwhile: Fault = standing,
) -> Fault:
    """The first engine of each model is faulty for a while, or all are."""

    async def fault(world: World) -> None:
        engines = world.engines
        those = [engines.those_of(model) for model in MODELS]
        chosen = [which for of in those for which in (of if everywhere else of[:1])]
        seed = world.random.getrandbits(32)
        try:
            for which in chosen:
                await asyncio.to_thread(engines.tell, which, Faults(tuple(kinds), share, seed))
                seed += 1
            await meanwhile(world)
            await world.until(lambda: not list(struck(world)), "a call to be struck", COME_SECONDS)
        finally:
            for which in chosen:
                engines.tell(which, Faults())

    return fault


async def refusing(world: World) -> None:
    """Nobody listens where the first engine of each model was."""
    try:
        for model in MODELS:
            world.engines.kill(model)
        await asyncio.sleep(world.seconds(*SECONDS))
    finally:
        for model in MODELS:
            world.engines.revive(model)
        await asyncio.to_thread(world.engines.wait)


async def dying(world: World) -> None:
    """The first engine of each model is killed, and killed again as soon as it works."""
    until, engines = time.monotonic() + world.seconds(*SECONDS), world.engines
    kills = 0
    try:
        while time.monotonic() < until:
            for model in MODELS:
                engines.kill(model)
                kills += 1
            await asyncio.sleep(AWAY_SECONDS)
            for model in MODELS:
                engines.revive(model)
            await asyncio.to_thread(engines.wait)
            await asyncio.sleep(LIVES_SECONDS)
    finally:
        for model in MODELS:
            engines.revive(model)
        await asyncio.to_thread(engines.wait)
    world.note(f"{kills} kills of engines")


def wasted(world: World) -> Iterable[str]:
    """Counts, for the report, what engines said and nobody got, and calls that nobody needed."""
    now = world.engines.counted()
    saw = [
        one for one in world.history.happenings if one.kind is Kind.SAW and not one.facts["again"]
    ]
    got = sum(len(TOKEN.findall(one.facts["text"])) for one in saw)
    needed = len({one.facts["answer"] for one in saw})
    said, calls = (now[name] - world.counted[name] for name in ("tokens", "asked"))
    share = f"{(said - got) / said:.1%}" if said else "none"
    world.note(f"wasted: {said - got} of {said} tokens ({share}), {calls} calls for {needed}")
    return ()


def struck(world: World) -> Iterator[str]:
    """A case whose fault never came would prove nothing."""
    if world.engines.counted()["struck"] == world.counted["struck"]:
        yield "no call was struck"
