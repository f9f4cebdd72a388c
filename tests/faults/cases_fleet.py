"""Cases of a faulty fleet: one engine of each model does wrong while others are well, and all do it
now and then."""

from tests.faults import case
from tests.faults.case import NO_ERRORS, Case, Form, Installation, Load
from tests.faults.engines import OPENAI, TGI
from tests.faults.faulty_fleet import dying, faulty, refusing, struck, wasted
from tests.faults.overload import SMALL_FLEET, overloaded, worker_killed, worker_paused
from tests.fixtures.numbered_faults import Fault

MIXED_SHARE = 0.3
FLEET = Installation(
    "fleet",
    {
        "THALWEG_ENGINE_CONNECT_SECONDS_MAX": "3",
        "THALWEG_ENGINE_FIRST_TOKEN_SECONDS_MAX": "5",
        "THALWEG_ENGINE_BETWEEN_TOKENS_SECONDS_MAX": "4",
    },
    engines=(("tgi", TGI), ("tgi", TGI), ("tgi", TGI), ("openai", OPENAI), ("openai", OPENAI)),
)
"""Engines that say a token each 20 ms are stuck sooner than real ones; but healthy ones are not to
be taken for stuck because the machine has other things to do."""
READERS = Load(streamers=16, commanders=2, models=(TGI, OPENAI), tokens=(10, 40))
NOBODY = Load(streamers=0, commanders=0)
"""The fault brings its own clients."""
SAYS = {
    Fault.DROP: "drop calls",
    Fault.STATUS: "answer 429",
    Fault.OVERLOADED: "are overloaded",
    Fault.ERROR: "answer with an error event",
    Fault.HANG: "hang before the first token",
    Fault.TRICKLE: "trickle",
    Fault.STALL: "stall after five tokens",
    Fault.CUT: "cut the connection",
    Fault.GARBAGE: "send garbage",
    Fault.NO_REASON: "finish without a reason",
}


def _case(name: str, fault: case.Fault, *expects: case.Expect) -> Case:
    return Case(
        f"engines {name}",
        fault,
        "engine",
        load=READERS,
        refusals=NO_ERRORS,
        expects=(wasted, *expects),
        installation=FLEET,
    )


FLEET_CASES = (
    _case("refuse connections", refusing),
    *(_case(says, faulty([fault]), struck) for fault, says in SAYS.items()),
    _case("die", dying),
    _case(
        "do anything",
        faulty(tuple(Fault), share=MIXED_SHARE, everywhere=True, meanwhile=dying),
        struck,
    ),
    Case("overload", overloaded, "all", load=NOBODY, installation=SMALL_FLEET),
    Case("kill answers saturated", worker_killed, "answers", load=NOBODY, installation=SMALL_FLEET),
    Case(
        "pause answers saturated",
        worker_paused,
        "answers",
        load=NOBODY,
        installation=SMALL_FLEET,
        forms=frozenset({Form.LONG}),
    ),
)
