"""Plays one round of a case on an installation: load, fault, quiet, judgement."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.faults.case import BUSY, Case
from tests.faults.checker import Rules, check
from tests.faults.door import Door
from tests.faults.engines import Engines
from tests.faults.history import keep_text
from tests.faults.load import Clients
from tests.faults.quiet import born_again, quiet, roles_of, whole
from tests.faults.read_side import judge_read_side
from tests.faults.stored import Base, base_of, stored_since
from tests.faults.verdict import Verdict
from tests.faults.world import OWN_KEY, World
from tests.fixtures.thalweg import RunningThalweg

QUIET_SECONDS = (1.0, 3.0)
"""Short form, long form."""
AGAIN_SECONDS_MAX = 180


@dataclass(frozen=True)
class Running:
    """An installation that runs, with its engines."""

    thalweg: RunningThalweg
    engines: Engines


async def play(case: Case, on: Running, seed: int, kept: Path, *, long: bool) -> Verdict:
    """One round. Everything that is wrong is in the verdict, the harness' own failure too.

    `kept` gets its history, and the ends of all logs if something was wrong.
    """
    verdict = Verdict(case.name, case.role, seed)
    began = time.monotonic()
    world = World(on.thalweg, on.engines, Random(f"{seed} {case.name}"), long)
    world.notes = verdict.notes
    try:
        async with asyncio.timeout(case.seconds_max):
            await _play(case, world, verdict)
    except Exception as error:
        verdict.found += [f"the round failed: {type(one).__name__}: {one}" for one in leaves(error)]
    finally:
        verdict.seconds = time.monotonic() - began
        name = f"{case.name.replace(' ', '-')}-{seed}"
        world.history.write(kept / "histories" / f"{name}.jsonl")
        if verdict.found:
            keep_text(kept / "logs" / f"{name}.txt", on.thalweg.logs())
    return verdict


def leaves(error: Exception) -> list[Exception]:
    """What went wrong, without the groups around it."""
    if isinstance(error, ExceptionGroup):
        return [leaf for one in error.exceptions for leaf in leaves(one)]
    return [error]


async def _play(case: Case, world: World, verdict: Verdict) -> None:
    world.pids = roles_of(world)
    world.counted = await asyncio.to_thread(world.engines.counted)
    seen_seconds_max = world.seconds(case.seen_seconds_max * BUSY, case.seen_seconds_max)
    base = await base_of(world.settings)
    clients = Clients(world.thalweg, world.history, case.load, world.random)
    try:
        await clients.begun()
        await asyncio.sleep(world.random.uniform(*case.moment_seconds))
        world.strike()
        await case.fault(world)
        world.history.mark("healed")
        await asyncio.sleep(case.after_seconds)
        await clients.finish(seen_seconds_max)
    finally:
        await clients.abandon()
        await asyncio.gather(*(door.close() for door in world.doors))
    await whole(world)
    await quiet(world, world.seconds(*QUIET_SECONDS))
    world.history.mark("quiet")
    if reborn := born_again(world):
        world.note(f"started again: {', '.join(reborn)}")
    await _judge(case, world, clients, base, verdict)


async def _judge(case: Case, world: World, clients: Clients, base: Base, verdict: Verdict) -> None:
    doors = [*clients.doors, *world.doors]
    async with asyncio.timeout(AGAIN_SECONDS_MAX):
        await asyncio.gather(*(_again(world, door) for door in doors))
    keys = [one.facts["key"] for one in world.history.happenings if "key" in one.facts]
    stored = await stored_since(world.settings, base, sorted(set(keys)))
    seen_seconds_max = world.seconds(case.seen_seconds_max * BUSY, case.seen_seconds_max)
    rules = Rules(
        case.refusals, case.ends, seen_seconds_max, OWN_KEY, world.strangers, world.garbage
    )
    anomalies = check(world.history.happenings, stored, rules)
    verdict.count(world.history.happenings, anomalies)
    verdict.found += [str(one) for one in anomalies]
    verdict.found += await judge_read_side(world.thalweg)
    verdict.found += world.wrong
    verdict.found += [wrong for expect in case.expects for wrong in expect(world)]


async def _again(world: World, before: Door) -> None:
    """Sends every accepted command once more, and reads every answer again: all is as it was."""
    thalweg = world.thalweg
    async with Door(world.history, thalweg.url, thalweg.api_key, before.number) as door:
        for command in before.accepted.values():
            await door.send(command)
        for answer in before.followed:
            await door.follow(answer, again=True)
