"""Five times what the engines can do, from a tenant that floods, one that asks for no more than
its share, and one in a hurry; and a worker that dies while every place of every engine is taken.

What the fleet could give is told by what it gave, and how long a request waited is counted in calls
of engines: in the short form no verdict knows the machine's speed. In the long form, which has the
machine for itself, every urgent request is to be answered by its deadline as well.
"""

import asyncio
import time
from collections.abc import Callable, Iterator

import psycopg

from tests.faults.case import Fault, Installation
from tests.faults.engines import TGI
from tests.faults.queues import Queues, ends_of_decisions, queues_since
from tests.faults.quiet import born_again
from tests.faults.strikes import killed, paused
from tests.faults.traffic import Asked, Tenant, Traffic
from tests.faults.world import World

ENGINES, PLACES = 2, 4
TOKENS, DELAY_MS = 40, 25
DEADLINE_SECONDS = 6
CAPACITY = ENGINES * PLACES / (TOKENS * DELAY_MS / 1_000)
"""Answers a second."""
UNANSWERED_PER_TENANT = 80
"""Ten seconds of work for all engines: who had to wait for those of others would be too late."""
SMALL_FLEET = Installation(
    "small fleet",
    {
        "THALWEG_ENGINE_REQUESTS_MAX": str(PLACES),
        "THALWEG_ENGINE_REQUESTS_AHEAD_MAX": "0",
        "THALWEG_ANSWER_SECONDS_MAX": str(DEADLINE_SECONDS),
        "THALWEG_UNANSWERED_REQUESTS_PER_TENANT_MAX": str(UNANSWERED_PER_TENANT),
    },
    engines=(("tgi", TGI),) * ENGINES,
)
FLOOD = Tenant("flooding", 4.5, ("default", "default", "default", "flex"))
NORMAL = Tenant("normal", 0.25)
"""Less than half of what priority leaves over, also of a fleet that is slower than it should be."""
URGENT = Tenant("urgent", 0.25, ("priority",))
TENANTS = (FLOOD, NORMAL, URGENT)
SECONDS = (7.0, 60.0)
"""Of the overload: short form, long form."""
GOODPUT_MIN = 0.95
"""Of the urgent tenant's requests: answered whole, or (in the short form) begun in time."""
WAITED_CALLS_MAX = 2.0
"""Who is next gets the place of the first call that ends: sooner than a call lasts (0.7 of it was
seen). Behind the flood it is as long as the deadline lasts: four or five calls."""
FAIR_MIN = 0.9
"""Of what the normal tenant has asked for, or of half of what it and the flood were given."""
BACK_SECONDS_MAX = (60.0, 10.0)
"""Short form, long form."""
LATE_SECONDS = 1.5
"""From a decision until a busy machine lets the worker say so."""
OVER_MAX, OVER_MAX_PAUSED = PLACES // 2, PLACES
"""How many calls more than its places an engine may have at once: what a worker had borrowed that
is silent for seconds; what a worker goes on with in partitions that it has kept, when its new
neighbour has got others and their places. All of a worker's calls, if it stands still: they go on
in places that are others' by then."""
KILLED_AFTER_SECONDS = 2.0
HTTP_TOO_MANY = 429
OPEN = "SELECT count(*) FROM conversations.answers WHERE ended_at IS NULL"


def _traffic(world: World) -> Traffic:
    return Traffic(world, CAPACITY, TOKENS, DELAY_MS)


async def overloaded(world: World) -> None:
    """Three tenants ask for five times what there is; then all is to be as it was."""
    traffic = _traffic(world)
    await traffic.make_keys(TENANTS)
    before = await _probed(world, traffic)
    world.strike()
    begin = await ends_of_decisions(world.settings)
    seconds = world.seconds(*SECONDS)
    await traffic.flow(TENANTS, seconds)
    after = await _back(world, traffic)
    world.note("; ".join(traffic.told(one.name) for one in TENANTS))
    world.note(f"first tokens {before:.2f} s before, {after:.2f} s after")
    answers = {one.answer for one in traffic.asked if one.answer is not None}
    queues = await queues_since(world.settings, begin, answers)
    world.wrong += [
        *_texts(traffic),
        *_goodput(world, traffic, queues),
        *_fairness(world, traffic, queues),
        *_refusals(traffic),
    ]
    if late := queues.late(LATE_SECONDS):
        world.wrong.append(f"{late} calls of engines began past their deadline")
    if reborn := born_again(world):
        world.wrong.append(f"overload is no reason to die: {', '.join(reborn)} did")
    world.wrong += _over(world, OVER_MAX)


def saturated(strike: Fault, over_max: int) -> Fault:
    """A worker dies, or stands still, while every place is taken and more waits."""

    async def fault(world: World) -> None:
        traffic = _traffic(world)
        await traffic.make_keys(TENANTS)
        seconds = world.seconds(*SECONDS)
        flowing = asyncio.create_task(traffic.flow(TENANTS, seconds))
        try:
            await asyncio.sleep(KILLED_AFTER_SECONDS)
            world.strike()
            await strike(world)
            await flowing
        finally:
            flowing.cancel()
        await _back(world, traffic)
        world.note("; ".join(traffic.told(one.name) for one in TENANTS))
        world.wrong += [*_texts(traffic), *_over(world, over_max)]

    return fault


worker_killed = saturated(killed("answers"), OVER_MAX)
worker_paused = saturated(paused("answers"), OVER_MAX_PAUSED)


async def _probed(world: World, traffic: Traffic) -> float:
    """The slowest first token of one request of each tenant, when nothing else is asked."""
    async with asyncio.timeout(world.seconds(*BACK_SECONDS_MAX)):
        while True:
            probes = await asyncio.gather(*(traffic.ask(one.name, one.tiers[0]) for one in TENANTS))
            if all(one.is_whole for one in probes):
                return max(one.begun_at - one.sent_at for one in probes)


async def _back(world: World, traffic: Traffic) -> float:
    """Until nothing is open and everybody is served again. The last answer has just ended."""
    began, seconds_max = time.monotonic(), world.seconds(*BACK_SECONDS_MAX)
    url = world.settings.database_url("conversations")
    await world.until(lambda: not _open(url), "all answers to have ended", seconds_max)
    first = await _probed(world, traffic)
    seconds = time.monotonic() - began
    world.note(f"all was as before after {seconds:.1f} s")
    if seconds > seconds_max:
        world.wrong.append(f"not everybody was served {seconds_max} s after the overload")
    return first


def _open(url: str) -> int:
    with psycopg.connect(url, connect_timeout=2) as connection:
        row = connection.execute(OPEN).fetchone()
    assert row is not None
    return int(row[0])


def _texts(traffic: Traffic) -> Iterator[str]:
    for one in traffic.asked:
        if one.wrong:
            yield f"an answer of {one.tenant}: {one.wrong}"


def _goodput(world: World, traffic: Traffic, queues: Queues) -> Iterator[str]:
    of = [one for one in traffic.asked if one.tenant == URGENT.name]
    whole, served = sum(one.is_whole for one in of), sum(map(_served(world, queues), of))
    longest = max(queues.waited_calls(one.answer) for one in of)
    world.note(f"goodput of priority {whole / len(of):.1%}, it waited {longest:.1f} calls at most")
    if served < GOODPUT_MIN * len(of):
        yield f"only {whole} of {len(of)} urgent requests were answered, {served} had their turn"


def _served(world: World, queues: Queues) -> Callable[[Asked], bool]:
    """Whether a request was answered, or is not for want of its turn: on a machine that does other
    things too, it may be late by the time that it comes to a queue, or its text on its way back."""

    def served(one: Asked) -> bool:
        soon = not world.long and queues.waited_calls(one.answer) <= WAITED_CALLS_MAX
        return one.is_whole or soon

    return served


def _fairness(world: World, traffic: Traffic, queues: Queues) -> Iterator[str]:
    """By tokens, those of answers that were not ended in time too."""
    asked = sum(TOKENS for one in traffic.asked if one.tenant == NORMAL.name)
    got, flood = (
        sum(one.tokens for one in traffic.asked if one.tenant == tenant.name)
        for tenant in (NORMAL, FLOOD)
    )
    due = min(asked, (got + flood) / 2)
    served = _served(world, queues)
    got = sum(
        TOKENS if served(one) else one.tokens for one in traffic.asked if one.tenant == NORMAL.name
    )
    world.note(f"the normal tenant got {got / due:.1%} of its share, {got} tokens; flood {flood}")
    if got < FAIR_MIN * due:
        yield f"the normal tenant got {got} tokens of the {due:.0f} of its share"


def _refusals(traffic: Traffic) -> Iterator[str]:
    """Who is refused is told when to come again."""
    silent = [one for one in traffic.asked if one.status == HTTP_TOO_MANY and not one.retry_after]
    if silent:
        yield f"{len(silent)} refusals without Retry-After"


def _over(world: World, over_max: int) -> Iterator[str]:
    """An engine's calls at once, in its whole life."""
    counts = [world.engines.counts(which) for which in range(ENGINES)]
    held, at_once = ([one[name] for one in counts] for name in ("held_max", "open_max"))
    world.note(f"calls at once {held} of {PLACES}, for moments {at_once}")
    if max(held) > PLACES + over_max:
        yield f"engines had {held} calls at once: {PLACES} are allowed, {over_max} more for a while"
