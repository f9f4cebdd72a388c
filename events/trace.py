"""The W3C trace context (https://www.w3.org/TR/trace-context/), carried by every hop of a message,
and the spans that are told of the stages on its way.

`current` holds the traceparent of the work at hand, so that each log line can name its trace; what
is told under it becomes its child.

A trace has to stay whole when a process dies before it has exported its spans. So no stage hangs
from the span of another process that may be lost: all stages of a turn, in whichever process and
after however many crashes, are children of one span, the turn. Its id is made from the traceparent
that the events carry (that of the request), so that everybody knows it, and it is told by whoever
records the answer's end, which somebody always does. Its parent is the request's own span.

A span is told when it is over, and at once forgotten. Without an exporter nothing is made at all.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

current: ContextVar[str | None] = ContextVar("thalweg_traceparent", default=None)

now_ns = time.time_ns
"""The time of spans: since 1970, as other machines have it."""

LIVE_SECONDS_MAX = 900.0
"""An event older than this is read again, not on its way: the longest answer and some minutes."""

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 0x01

Attribute = str | int | float | bool | tuple[str, ...]


class Kind(Enum):
    """What OpenTelemetry calls a span's kind."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


@dataclass(frozen=True, slots=True)
class Span:
    """A stage that is over. Ids, counts and reasons only: nothing personal, nothing secret."""

    name: str
    """One of few: no ids in it."""
    traceparent: str
    """Its own: trace, id, flags."""
    parent: str | None
    """The id of the span that it is a child of."""
    began_ns: int
    ended_ns: int
    kind: Kind = Kind.INTERNAL
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    failed: str = ""
    """Why, in a word or two; empty: it went well."""


@dataclass(slots=True)
class _Exporting:
    tell: Callable[[Span], None] | None = None
    ratio: float = 1.0


_exporting = _Exporting()


def export_to(tell: Callable[[Span], None] | None, *, ratio: float = 1.0) -> None:
    """From now on the spans of this process go to `tell`, which never blocks; None: to nobody.

    `ratio` of the traces that begin here are sampled; a trace that comes in was decided about.
    """
    _exporting.tell, _exporting.ratio = tell, ratio


def new_traceparent() -> str:
    """A new trace with its first span; sampled, unless an exporter wants only some."""
    trace = secrets.token_hex(16)
    # By the trace's id, as OpenTelemetry's samplers do, so that all agree about a trace.
    sampled = int(trace[16:], 16) < _exporting.ratio * 2**64
    return f"00-{trace}-{secrets.token_hex(8)}-{'01' if sampled else '00'}"


def child_of(traceparent: str | None) -> str:
    """A new span in the same trace; in a new trace if there is none, or a malformed one."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None:
        return new_traceparent()
    return f"00-{found[1]}-{secrets.token_hex(8)}-{found[3]}"


def turn_of(traceparent: str | None) -> str:
    """The span of the turn that the request of this span began: the same for everybody."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None:
        return new_traceparent()
    made = hashlib.sha256(f"turn {found[1]} {found[2]}".encode()).hexdigest()[:16]
    return f"00-{found[1]}-{made}-{found[3]}"


def ids_of(traceparent: str | None) -> tuple[str, str] | None:
    """Trace id and span id, or None if it is not a traceparent."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    return (found[1], found[2]) if found else None


@contextmanager
def within(traceparent: str | None) -> Iterator[None]:
    """Does what follows in the trace of `traceparent`."""
    token = current.set(traceparent)
    try:
        yield
    finally:
        current.reset(token)


# Telling ----------------------------------------------------------------------------------------


def is_told(traceparent: str | None, *, of: datetime | None = None) -> bool:
    """Whether stages of this trace are told: there is an exporter, and the trace is sampled.

    `of` is the time of the event that is handled: what is read again long after makes no spans.
    """
    if _exporting.tell is None or traceparent is None:
        return False
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or not int(found[3], 16) & _SAMPLED:
        return False
    return of is None or time.time() - of.timestamp() < LIVE_SECONDS_MAX


def is_exporting() -> bool:
    """Whether anything is told at all."""
    return _exporting.tell is not None


def tell(span: Span) -> None:
    """Hands the span to the exporter, if there is one and its trace is sampled."""
    if _exporting.tell is not None and is_told(span.traceparent):
        _exporting.tell(span)


def stage(
    name: str,
    under: str | None,
    began_ns: int,
    *,
    ended_ns: int | None = None,
    kind: Kind = Kind.INTERNAL,
    failed: str = "",
    attributes: Mapping[str, Attribute] | None = None,
) -> None:
    """Tells of a stage that is over, as a child of the span `under`."""
    if not is_told(under):
        return
    ids = ids_of(under)
    span = Span(
        name,
        child_of(under),
        ids[1] if ids else None,
        began_ns,
        max(began_ns, now_ns() if ended_ns is None else ended_ns),
        kind,
        attributes or {},
        failed,
    )
    tell(span)
