"""A case of the fault harness, declared: what strikes whom, when, under which load, and what must
hold besides the invariants, which hold after every case."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.faults.engines import ALONE, OPENAI, TGI
from tests.faults.world import World

Fault = Callable[[World], Awaitable[None]]
"""Strikes, and returns when whatever was wrong is gone, or will go by itself. What it did it
undoes, also when it is cancelled."""
Expect = Callable[[World], Iterable[str]]
"""What is wrong, in words, with what else must hold: looked at after quiet, history in hand."""


class Form(StrEnum):
    SHORT = "short"
    """One round in `make test`."""
    LONG = "long"
    """What `make faults` does."""


USUAL_REFUSALS = frozenset(
    {
        # unknown: the connection went, or the gateway says that it can't know, or comes back soon
        "connection",
        "store_unavailable",
        "store_saturated",
        "busy",
        "gateway_draining",
        "answer_stream_unavailable",
        "not_applied_yet",
        # refused, and rightly: an end is shown before it is recorded; nobody knows who asks
        "answer_in_progress",
    }
)
"""Codes that clients may be told while something is wrong. `connection` is none of a response."""
NO_REFUSALS: frozenset[str] = frozenset()
NO_ERRORS = frozenset({"answer_in_progress", "not_applied_yet"})
"""Nothing is told that is a fault's doing: an end is shown before it is recorded, so who posts at
once may be told the one; a read model may be behind for longer than a reading waits on a machine
with much to do, and who reads after a write is told the other, never what was before the write."""
BUSY = 3.0
"""How much longer things may take in `make test`, beside other whole systems."""


@dataclass(frozen=True)
class Load:
    """Who is there when the fault strikes."""

    streamers: int = 16
    """Clients that ask, read the answer's stream, come again with their cursor, and ask again."""
    commanders: int = 10
    """Each sends a command a second: renames, posts, cancels, repeats; some read what they did."""
    models: tuple[str, ...] = (TGI,)
    """Clients take them in turns."""
    tokens: tuple[int, int] = (20, 80)
    """Of an answer: at least, at most."""
    delay_ms: int = 20
    text: str = ""
    """More of it in each message."""


ENGINES = (("tgi", TGI), ("tgi", TGI), ("openai", OPENAI), ("openai", OPENAI), ("tgi", ALONE))


@dataclass(frozen=True)
class Installation:
    """A whole Thalweg, which serves all cases that name it, one after the other."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    """THALWEG_* and anything else that the environment of its processes has."""
    around: Callable[[Path], AbstractContextManager[Mapping[str, str]]] = lambda home: nullcontext(
        {}
    )
    """Entered before it starts, with its home folder; gives more of the environment."""
    engines: tuple[tuple[str, str], ...] = ENGINES
    """Protocol and model of each."""


RESTART_DELAY_SECONDS = "0.25"
"""Of the usual installation: cases that kill the same role one after the other don't wait."""
USUAL = Installation(
    "usual",
    {
        "THALWEG_FAILPOINTS": "file",
        "THALWEG_RESTART_DELAY_SECONDS_MAX": RESTART_DELAY_SECONDS,
    },
)


@dataclass(frozen=True)
class Case:
    name: str
    """A few words; unique."""
    fault: Fault
    role: str = ""
    """Whom it strikes, for the report."""
    moment_seconds: tuple[float, float] = (0.0, 1.5)
    """After every client reads: the fault comes at random in this range."""
    load: Load = Load()
    after_seconds: float = 1.0
    """The load goes on for so long after the fault."""
    refusals: frozenset[str] = USUAL_REFUSALS
    ends: frozenset[str] = frozenset({"finish"})
    """Kinds of ends that answers may have; `cancelled` may those that somebody cancelled."""
    seen_seconds_max: float = 60
    """From the fault's end, or the acceptance, to the end of an answer on its client's screen; on a
    machine that does something else besides (the short form) it is BUSY times as long."""
    expects: tuple[Expect, ...] = ()
    installation: Installation = USUAL
    forms: frozenset[Form] = frozenset(Form)
    """A case may be for one form only."""
    seconds_max: float = 600
    """Of all of it: load, fault, quiet, judgement; so that nothing hangs for ever."""

    def __str__(self) -> str:
        return self.name
