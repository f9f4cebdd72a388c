"""The W3C trace context (https://www.w3.org/TR/trace-context/), carried by every hop of a message.

`current` holds the traceparent of the work at hand, so that each log line can name its trace.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

current: ContextVar[str | None] = ContextVar("thalweg_traceparent", default=None)

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


def new_traceparent() -> str:
    """A new sampled trace with its first span."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def child_of(traceparent: str | None) -> str:
    """A new span in the same trace; in a new trace if there is none, or a malformed one."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None:
        return new_traceparent()
    return f"00-{found[1]}-{secrets.token_hex(8)}-{found[3]}"


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
