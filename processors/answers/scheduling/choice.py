"""Which engine speaks: the one that holds the prefix, else the less loaded of two.

Two random ones and the better of them (Mitzenmacher, "The Power of Two Choices in Randomized Load
Balancing", 2001): several workers with figures of the same age do not all run to the same engine.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from processors.answers.scheduling.seats import Load, Seat

LOOKED_AT = 2


class Because(Enum):
    PREFIX = "prefix"
    """It spoke last in this conversation, and has room."""
    ONLY = "only"
    """No other that serves the model has room."""
    LESS_LOADED = "less_loaded"


@dataclass(frozen=True, slots=True)
class Choice:
    seat: Seat
    because: Because
    looked_at: tuple[tuple[str, Load], ...]
    """The engines that were compared, with what was known of each."""


def choose(
    able: Sequence[Seat],
    now: float,
    chance: random.Random,
    *,
    prefer: str | None = None,
    avoid: str | None = None,
) -> Choice | None:
    """Of engines that can do it and have room; None: there are none. `prefer`: the name of the one
    with the prefix. `avoid`: of one that is taken only if there is no other."""
    able = [seat for seat in able if seat.name != avoid] or able
    for seat in able:
        if seat.name == prefer:
            return Choice(seat, Because.PREFIX, ((seat.name, seat.load(now)),))
    if not able:
        return None
    if len(able) == 1:
        return Choice(able[0], Because.ONLY, ((able[0].name, able[0].load(now)),))
    looked_at = [(seat, seat.load(now)) for seat in chance.sample(able, LOOKED_AT)]
    best, _ = min(looked_at, key=lambda each: (each[1].load, each[0].in_flight))
    return Choice(best, Because.LESS_LOADED, tuple((seat.name, load) for seat, load in looked_at))
