"""Kills between two side effects, at a failpoint that chance chooses, at one of its first hits."""

from tests.faults.case import Fault
from tests.faults.failpoints import (
    AT_START,
    Strike,
    arm,
    disarm,
    has_struck,
    strikes_of,
    strikes_told,
)
from tests.faults.world import World

HITS_MAX = 5
STRUCK_SECONDS_MAX = 15.0
"""Some are hit only by what these clients don't do: then it is disarmed, and the round says so."""


def at_a_failpoint(role: str) -> Fault:
    async def fault(world: World) -> None:
        chosen = world.random.choice(strikes_of(role))
        hit = 1 if chosen.name in AT_START else world.random.randint(1, HITS_MAX)
        strike = Strike(role, chosen.name, hit)
        since = len(strikes_told(world.thalweg))
        arm(world.thalweg, strike)
        try:
            await world.until(
                lambda: has_struck(world.thalweg, strike, since), str(strike), STRUCK_SECONDS_MAX
            )
            world.note(f"killed {strike}")
        except AssertionError:
            world.note(f"not hit: {strike}")
            disarm(world.thalweg, role)

    return fault
