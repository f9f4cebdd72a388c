"""The parts of a run, in their order, each with its aims. `--only NAME` runs one of them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.bench import commands, fleet_parts, kills, measure, read_side, streams
from tests.bench.cost import cost
from tests.bench.measure import Spread
from tests.bench.picture import engine_of, picture
from tests.bench.repeats import repeated
from tests.bench.rows import Row, at_least, at_most, duration, spread
from tests.bench.stages import AGREE_SHARE, Staged, stages
from tests.bench.world import World, otlp, where
from tests.fixtures.collector import Collector

ADDED_P50_AIM, ADDED_P99_AIM = 0.005, 0.020
STREAMED_AIM, PLAIN_AIM = 250, 400
AFTER_WORKER_AIM, AFTER_GATEWAY_AIM = 3.0, 1.5
STREAM_BYTES_AIM, LATE_AIM = 65_536, 0.100
COMMANDS_AIM, RELAY_AIM, REBUILD_AIM = 3_000, 5_000, 20_000
LAG_AIM, FEED_BYTES_AIM, SEARCH_AIM = 1.0, 65_536, 0.020
PICTURE = "first-token.svg"


@dataclass(frozen=True)
class Part:
    name: str
    does: str
    measure: Callable[[World], Awaitable[Sequence[Row]]]
    alone: bool = False
    """It starts what it needs by itself, and nothing else is to run."""


async def first_token(world: World) -> list[Row]:
    straight, through = await measure.first_token(
        world.engine, world.target, pairs=world.scale.pairs
    )
    added = [getattr(through, p) - getattr(straight, p) for p in ("p50", "p95", "p99")]
    return [
        Row("first token, straight (20 ms a token)", spread(straight)),
        Row("first token, through Thalweg", spread(through)),
        at_most("added, p50", added[0], ADDED_P50_AIM),
        Row("added, p95", duration(added[1])),
        at_most("added, p99", added[2], ADDED_P99_AIM),
    ]


async def rate(world: World) -> list[Row]:
    rows = []
    for stream, name, aim in ((True, "streamed", STREAMED_AIM), (False, "not streamed", PLAIN_AIM)):
        port, key = world.thalweg.port, world.thalweg.api_key
        one = await measure.rate(port, key, stream=stream, requests=world.scale.requests)
        what = f"{measure.AT_A_TIME} at a time, 20 tokens at once, {name}"
        got = f"{one.per_second:.0f} requests/s (an answer: {spread(one.seconds)})"
        rows.append(at_least(what, one.per_second, aim, "requests/s", got))
    return rows


async def cpu(world: World) -> list[Row]:
    rows = []
    for stream, name in ((True, "streamed"), (False, "not streamed")):
        found = await cost(
            world.thalweg, world.engine_pid, stream=stream, requests=world.scale.cost_requests
        )
        by_role = sorted(found.seconds.items(), key=lambda one: -one[1])
        told = ", ".join(f"{role} {seconds * 1e3:.2f}" for role, seconds in by_role)
        got = f"{found.own * 1e3:.2f} ms ({told})"
        rows.append(Row(f"CPU a request, {name}, without engine and load", got))
    return rows


async def repeats(world: World) -> list[Row]:
    found = await repeated(world.target, world.engine.port, sends=world.scale.sends)
    what = "generations for a send that the official client repeated"
    return [Row(what, f"{found:.1f}", "1", found == 1)]


async def worker_killed(world: World) -> list[Row]:
    alone = await measure.after_a_kill(world.thalweg, kills=world.scale.kills)
    behind = world.scale.behind
    many = await kills.of_worker_with_many_behind(
        world.thalweg, behind=behind, kills=world.scale.behind_kills
    )
    what = "next token after kill -9 of its worker"
    return [
        *gap(what, alone, AFTER_WORKER_AIM),
        *gap(f"{what}, {behind} finished answers behind", many, AFTER_WORKER_AIM),
    ]


async def gateway_killed(world: World) -> list[Row]:
    gaps = await kills.of_gateway(world.thalweg, kills=world.scale.gateway_kills)
    return gap("next token after kill -9 of the gateway, reconnecting", gaps, AFTER_GATEWAY_AIM)


def gap(what: str, gaps: Sequence[float], aim: float) -> list[Row]:
    if not gaps:
        return []
    found = Spread.of(gaps)
    got = f"p50 {duration(found.p50)}, p99 {duration(found.p99)}"
    return [at_most(f"{what} ({len(gaps)} answers)", found.p99, aim, got, "p99")]


async def many_streams(world: World) -> list[Row]:
    silent, active = world.scale.streams - world.scale.active, world.scale.active
    found = await streams.streams(
        world.thalweg, silent=silent, active=active, seconds=world.scale.active_seconds
    )
    each = found.bytes_each
    late = f"{active} of {world.scale.streams} streams at 20 tokens/s: a frame comes late by"
    return [
        Row(
            f"{silent} open streams, memory of the gateway for each",
            f"{each / 1024:.1f} KiB",
            f"{STREAM_BYTES_AIM // 1024} KiB or less",
            each <= STREAM_BYTES_AIM,
        ),
        at_most(late, found.late.p99, LATE_AIM, spread(found.late), "p99"),
    ]


async def write_side(world: World) -> list[Row]:
    found = await commands.written(world.thalweg, world.scale.commands)
    return [
        at_least(
            f"commands of {commands.SUBMITTERS} submitters on one context, the relay held",
            found.commands_per_second,
            COMMANDS_AIM,
            "commands/s",
        ),
        at_least("the relay catches up", found.relayed_per_second, RELAY_AIM, "events/s"),
    ]


async def feeds(world: World) -> list[Row]:
    found = await read_side.feed(
        world.thalweg, feeds=world.scale.feeds, changes=world.scale.feed_changes
    )
    return [
        Row(
            f"{world.scale.feeds} open feeds, memory of the gateway for each",
            f"{found.bytes_each / 1024:.1f} KiB",
            f"{FEED_BYTES_AIM // 1024} KiB or less",
            found.bytes_each <= FEED_BYTES_AIM,
        ),
        Row("from a change to its frame on a feed", spread(found.seconds)),
    ]


async def lag(world: World) -> list[Row]:
    found = Spread.of(await read_side.lag(world.thalweg, probes=world.scale.probes))
    what = f"read after a write, {measure.AT_A_TIME} answers at a time beside it"
    return [at_most(what, found.p99, LAG_AIM, spread(found), "p99")]


async def past(world: World) -> list[Row]:
    await read_side.fill(world.thalweg, messages=world.scale.messages)
    found = await read_side.search(world.thalweg, searches=world.scale.searches)
    what = f"search among {world.scale.messages} messages"
    rows = [at_most(what, found.p50, SEARCH_AIM, spread(found), "p50")]
    for name in ("histories", "usage"):
        rebuilt = await read_side.rebuild(world.thalweg, name)
        what = f"rebuild of {name}, {rebuilt.events} events"
        rows.append(at_least(what, rebuilt.per_second, REBUILD_AIM, "events/s"))
    return rows


async def traced(world: World) -> list[Row]:
    if world.collector is not None:
        return _staged(
            world, await stages(world.thalweg, world.collector, requests=world.scale.traced)
        )
    with Collector() as collector, world.another(**otlp(collector)) as thalweg:
        await measure.warm_up(thalweg.port, thalweg.api_key)
        found = await stages(thalweg, collector, requests=world.scale.traced)
    return _staged(world, found)


def _staged(world: World, found: Staged) -> list[Row]:
    world.pictures[PICTURE] = picture(
        found, f"The middle fifth of {found.traces} traces. {where()}"
    )
    world.sections["stages"] = "\n".join(
        [
            "| Who | Until | ms |",
            "|---|---|---|",
            *(f"| {who} | {what} | {seconds * 1e3:.2f} |" for who, what, seconds in found.stages),
        ]
    )
    share = abs(found.summed - found.client) / found.client
    return [
        Row(
            "stages of a median first token, summed (its traces are exported meanwhile)",
            f"{duration(found.summed)}, of them the engine's {duration(engine_of(found))}; "
            f"clients: {duration(found.client)} ({share:.1%} apart)",
            f"{AGREE_SHARE:.0%} apart or less",
            found.agree,
        )
    ]


PARTS = (
    Part("first-token", "first tokens, straight and through Thalweg, in turns", first_token),
    Part("rate", "answers, 32 at a time, streamed and not", rate),
    Part("cpu", "CPU time a request, by role", cpu),
    Part("commands", "commands of 32 submitters, and the relay behind them", write_side),
    Part("streams", "many open streams, some of which speak", many_streams),
    Part("feeds", "many open feeds", feeds),
    Part("lag", "reads after writes, under load", lag),
    Part("repeats", "sends whose connection is cut before the response", repeats),
    Part("cancel", "cancels, from the command to the engine", fleet_parts.cancel),
    Part("worker-killed", "kill -9 of workers", worker_killed),
    Part("gateway-killed", "kill -9 of the gateway", gateway_killed),
    Part("past", "a long past: searches in it, rebuilds of it", past),
    Part(
        "dispatch", "decisions of the scheduler, and what it adds", fleet_parts.dispatch, alone=True
    ),
    Part("urgent", "urgent requests while flex waits", fleet_parts.urgent, alone=True),
    Part("engine-faults", "engines that go wrong", fleet_parts.faults, alone=True),
    Part("stages", "where each millisecond goes, by traces", traced, alone=True),
)
