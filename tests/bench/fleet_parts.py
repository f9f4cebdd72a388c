"""The parts of a run that are about many engines and more work than they can do."""

from tests.bench import cancels, dispatching, engine_faults, flex_waiting
from tests.bench.measure import Spread
from tests.bench.rows import Row, at_most, duration, spread
from tests.bench.world import World

RATIO_AIM = 1.5
CANCEL_AIM = 0.100


async def dispatch(world: World) -> list[Row]:
    per_second = dispatching.decided(world.scale.decisions)
    added = await dispatching.added(world.scale.dispatched)
    waiting = f"{dispatching.WAITING} waiting of {dispatching.TENANTS} tenants"
    return [
        Row(f"dispatch decisions, {waiting}", f"{per_second:,.0f} a second of one processor"),
        Row(
            "time that the dispatcher adds to a request that finds room",
            f"p50 {added.p50 * 1e6:.0f} µs, p99 {added.p99 * 1e6:.0f} µs",
        ),
    ]


async def urgent(world: World) -> list[Row]:
    places = world.scale.flex_places
    with world.another(**flex_waiting.settings(places)) as thalweg:
        found = await flex_waiting.first_tokens(
            thalweg,
            world.engine,
            waiting=world.scale.flex_waiting,
            places=places,
            probes=world.scale.urgent,
        )
    ratio = found.behind.p50 / found.alone.p50
    what = f"first token of a priority request, {found.waiting_min} of flex before it"
    return [
        Row("first token of a priority request, nothing else", spread(found.alone)),
        Row(what, spread(found.behind)),
        Row("the ratio of their p50", f"{ratio:.2f}", f"{RATIO_AIM} or less", ratio <= RATIO_AIM),
    ]


async def cancel(world: World) -> list[Row]:
    found = await cancels.cancelled(world.thalweg, world.engine.port, cancels=world.scale.cancels)
    what = f"from a cancel to the closed connection of the engine ({world.scale.cancels})"
    return [at_most(what, found.p99, CANCEL_AIM, spread(found), "p99")]


async def faults(world: World) -> list[Row]:
    engines = engine_faults.engines_in(world.folder)
    try:
        settings = {"engines": engines.setting, **engine_faults.SETTINGS}
        with world.another(**settings) as thalweg:
            found = await engine_faults.recovered(thalweg, engines, world.scale.at_a_fault)
    finally:
        engines.stop()
    return [
        Row(f"next token when an engine {name} ({len(gaps)} answers)", _told(gaps))
        for name, gaps in found.items()
    ]


def _told(gaps: list[float]) -> str:
    if not gaps:
        return "no answer was struck"
    found = Spread.of(gaps)
    return f"p50 {duration(found.p50)}, p99 {duration(found.p99)}"
