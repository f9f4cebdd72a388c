"""Named moments between two side effects, at which a test can kill, stop, fail or delay a process.

Off by default: a hit is then one comparison. `THALWEG_FAILPOINTS` turns them on, and only an
installation that is declared to be a single machine takes that setting. Its value is a plan, or
the word `file`: then each process takes the plan that lies in `failpoints/ROLE` of its home folder
when it starts, or gets SIGUSR2, and takes it away, so that the life after a kill is left in peace.

A plan is `NAME[:HIT]=ACTION[:SECONDS]`, several with commas: `relay.after_produce:2=kill` kills at
the second hit. `*` stands for every name. Whatever is done is first written to `failpoints/hits`.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

FROM_FILE = "file"
DELAY_SECONDS_MAX = 60.0
"""Of one delay: longer than any session timeout; a test should not wait for more."""

CATALOGUE: Final[dict[str, str]] = {
    # whoever writes to an event store: gateway, recorder, sagas, command line
    "store.before_append": "a command is decided | nothing of it is in Postgres",
    "store.after_append": "a group of commands is committed | anybody is told",
    "store.before_keep": "a command without events is decided | its id is kept",
    "store.after_keep": "the id of a command without events is kept | anybody is told",
    "store.before_settle": "an answer was delivered whole | nobody may join its turn any more",
    "store.after_settle": "a turn is settled | the gateway forgets that it was to be",
    # relay
    "relay.after_take": "the lease is taken, with a new epoch | its holder leads",
    "relay.after_read": "events are read | they are given to the producer",
    "relay.after_produce": "events are given to the producer | Kafka has acknowledged them",
    "relay.after_acknowledge": "Kafka has acknowledged events | their position is stored",
    "relay.after_position": "a position is stored | the next events are waited for",
    "relay.before_release": "a leader steps down | its lease is free",
    # answers, in the order of one request
    "answers.on_assignment": "the group has given partitions | the worker knows",
    "answers.before_tail": "where the tokens begin and end is known | they are folded",
    "answers.after_take": "a request has come from Kafka | anything is done about it",
    "answers.before_load": "a request is held, its tokens are folded | the event store is asked",
    "answers.after_load": "the event store has told of a request | it is claimed",
    "answers.after_claim_sent": "a claim is given to the producer | it is in the log",
    "answers.after_claim_read": "a claim is read back from the log | it is folded",
    "answers.after_call_begun": "the engine has taken a call | its first token",
    "answers.after_token": "the engine has said something | it is given to the producer",
    "answers.after_chunk_sent": "a chunk is given to the producer | it is in the log",
    "answers.after_chunk_read": "a chunk is read back from the log | it is folded",
    "answers.after_end_sent": "an end is given to the producer | it is in the log",
    "answers.after_end_read": "an end is read back from the log | its request is acknowledged",
    "answers.before_acknowledge": "an answer has ended by the fold | its request may be committed",
    "answers.before_commit": "requests are acknowledged | their offsets are committed to Kafka",
    "answers.after_commit": "offsets are committed to Kafka | the worker knows",
    # recorder
    "recorder.on_assignment": "the group has given partitions | they are folded anew",
    "recorder.after_read": "tokens are read | they are folded",
    "recorder.before_live": "tokens are folded | they are in Redis",
    "recorder.after_live": "tokens are in Redis | the recorder knows",
    "recorder.before_record": "an end is folded | it is submitted",
    "recorder.after_record": "an end is recorded | offsets are committed",
    "recorder.before_expiry": "an end is recorded | its live stream will expire",
    "recorder.before_commit": "answers are recorded | their offsets are committed to Kafka",
    "recorder.after_commit": "offsets are committed to Kafka | the recorder knows",
    "recorder.before_destroy": "keys may be past their time | they are destroyed",
    "recorder.after_destroy": "keys past their time are destroyed | the next look",
    # sagas: what is read, timers, and the commands on their way
    "sagas.on_assignment": "the group has given partitions | where to read them on is looked up",
    "sagas.after_read": "events are read | a transaction begins",
    "sagas.before_commit": "states, timers, commands and offsets are written | they are committed",
    "sagas.after_commit": "a batch is committed | the feed reads on",
    "sagas.after_timer": "a timer has fired, its commands are written | both are committed",
    "sagas.after_firing": "what timers made is committed | any of its commands is sent",
    "sagas.after_take": "a command is taken from the outbox | it is sent",
    "sagas.after_send": "a command was sent | its row leaves the outbox, its outcome is put in",
    "sagas.after_outcome": "an outcome is put in, the row is gone | both are committed",
    # projections, the dead letters' verbs, and a rebuild
    "projections.after_read": "events are read | a transaction begins",
    "projections.after_rows": "rows are changed | their positions are written",
    "projections.before_commit": "rows and positions are written | they are committed",
    "projections.after_commit": "a batch is committed | the feed knows",
    "projections.after_refusal": "an event can't be applied | its stream is parked",
    "rebuild.after_begin": "a further build is registered | its tables are made",
    "rebuild.after_fill": "a build has its rows | it is compared",
    "rebuild.before_switch": "builds were found equal | the switch begins",
    "rebuild.in_switch": "the live build stands still | the other one is live",
    "rebuild.after_switch": "another build is live | the rebuild says so",
    # `thalweg prepare`, which begins every start
    "prepare.after_topics": "schemas and topics are made | the first key is",
    "prepare.after_key": "the first key is in the event store | a person can read it",
}
"""Every failpoint: what has happened before it | what has not happened yet."""

ENTRY = re.compile(
    r"(?P<name>[a-z_.]+|\*)(:(?P<hit>[1-9]\d*))?=(?P<action>[a-z]+)(:(?P<seconds>\d+(\.\d+)?))?"
)


class BadPlan(ValueError):
    """A plan of failpoints that can't be followed."""


class FailpointRaised(RuntimeError):
    """What the action `raise` raises."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a plan: at that hit of that failpoint, do this."""

    name: str
    hit: int
    action: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.name}:{self.hit}={self.action}"


def _kill(entry: Entry) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop(entry: Entry) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _raise(entry: Entry) -> None:
    raise FailpointRaised(str(entry))


def _delay(entry: Entry) -> None:
    """Holds up the whole thread, and the event loop if it is in this thread: as a pause would."""
    time.sleep(entry.seconds)


ACTIONS: Final[dict[str, Callable[[Entry], None]]] = {
    "kill": _kill,
    "stop": _stop,
    "raise": _raise,
    "delay": _delay,
    "tell": lambda entry: None,
}


def parse(plan: str) -> tuple[Entry, ...]:
    """The entries of a plan. Raises BadPlan, which says what is wrong."""
    return tuple(_entry(part.strip()) for part in plan.split(",") if part.strip())


def _entry(text: str) -> Entry:
    found = ENTRY.fullmatch(text)
    if found is None:
        raise BadPlan(f"{text!r} is not NAME[:HIT]=ACTION[:SECONDS]")
    name, action, seconds = found["name"], found["action"], float(found["seconds"] or 0)
    if name != "*" and name not in CATALOGUE:
        raise BadPlan(f"{name!r} is no failpoint; infra/failpoints.py lists them")
    if action not in ACTIONS:
        raise BadPlan(f"{action!r} is none of {', '.join(ACTIONS)}")
    if seconds > DELAY_SECONDS_MAX or (action == "delay") != (found["seconds"] is not None):
        raise BadPlan(f"{text!r}: delay, and nothing else, has seconds, {DELAY_SECONDS_MAX:g} max")
    return Entry(name, int(found["hit"] or 1), action, seconds)


@dataclass(slots=True)
class Plan:
    """What this process does at which hit. Hits are counted from when it was made."""

    entries: Sequence[Entry]
    tell: Callable[[str], None]
    """Gets a line before anything is done."""
    hits: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hit(self, name: str) -> None:
        with self._lock:
            self.hits[name] += 1
            count = self.hits[name]
            due = [each for each in self.entries if each.name in (name, "*") and each.hit == count]
        for entry in due:
            self.tell(f"{name} {count} {entry.action}")
            ACTIONS[entry.action](entry)


_plan: Plan | None = None
_is_on = False


def hit(name: str) -> None:
    """Placed between two side effects; `name` is in the catalogue. Does nothing unless told to."""
    if _plan is not None:
        _plan.hit(name)


def are_on() -> bool:
    """Whether this process may be told to fail: for places that cost more than a hit."""
    return _is_on


def begin(setting: str, home: Path, roles: Sequence[str]) -> None:
    """Follows THALWEG_FAILPOINTS from here on; of `file`, what lies there now. Raises BadPlan."""
    global _is_on
    _is_on = bool(setting)
    if setting == FROM_FILE:
        take_from_file(home, roles)
    elif setting:
        follow(parse(setting), home, roles)


def take_from_file(home: Path, roles: Sequence[str]) -> None:
    """Takes the plans that lie in the home folder for these roles; each is taken once."""
    plans = []
    for role in roles:
        taken = folder_of(home) / f"{role}.{os.getpid()}"
        with suppress(FileNotFoundError):
            (folder_of(home) / role).rename(taken)
            plans.append(taken.read_text())
            taken.unlink()
    if plans:
        follow(parse(",".join(plans)), home, roles)


def follow(entries: Sequence[Entry], home: Path, roles: Sequence[str]) -> None:
    """From here on hits are counted anew, and these entries are followed; none: nothing is."""
    global _plan
    hits, who = folder_of(home) / "hits", f"{'+'.join(roles)} {os.getpid()}"

    def tell(what: str) -> None:
        hits.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(hits, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{who} {what}\n".encode())
        finally:
            os.close(descriptor)

    _plan = Plan(entries, tell) if entries else None


def folder_of(home: Path) -> Path:
    """Where plans lie, and what was done is written."""
    return home / "failpoints"
