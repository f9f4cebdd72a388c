"""What a gateway's figures are made of, and which answers it can tell them of.

A client's wait is measured for an answer that was asked for here, if its reader begins here soon
after and stays until the end: what is read later, elsewhere or again says nothing of how it was
served. Implementation of the port: infra/metrics/gateway.py.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from events.answers import EntryEnd
from events.conversations import EndKind

TURNS_KEPT_MAX = 10_000
"""Answers that are followed, or may be; the oldest is let go."""
SOON_SECONDS_MAX = 5.0
"""A reader that comes later to an answer did not wait for it all the time."""


@dataclass(frozen=True, slots=True)
class Served:
    """An answer as its reader had it, in seconds since it was asked for."""

    model: str
    """As the client said it, or the one that it was given."""
    seconds: float
    first_seconds: float | None
    """None: it had no text."""
    tokens: int
    error: str
    """Why it failed, `cancelled`, or empty."""


class Meter(Protocol):
    """One call costs microseconds, and never fails."""

    def refused(self, code: str) -> None:
        """A request was refused, for a reason of ours: one of some dozens."""

    def first_token(self, model: str, seconds: float) -> None: ...

    def served(self, answer: Served) -> None: ...


class Unmeasured:
    """Counts nothing."""

    def refused(self, code: str) -> None:
        pass

    def first_token(self, model: str, seconds: float) -> None:
        pass

    def served(self, answer: Served) -> None:
        pass


UNMEASURED = Unmeasured()


@dataclass(slots=True)
class _Turn:
    model: str
    began_at: float
    asked_at: float
    first_at: float | None = None


class Followed:
    """Of one gateway: told by whatever sends or gathers an answer's entries."""

    def __init__(self, meter: Meter, seen_end: Callable[[UUID], None]) -> None:
        self._meter = meter
        self._seen_end = seen_end
        self._turns: OrderedDict[UUID, _Turn] = OrderedDict()

    def asked(self, answer: UUID, model: str, began_at: float) -> None:
        """It is asked for now, by a request that began then (`time.monotonic`)."""
        self._turns[answer] = _Turn(model, began_at, time.monotonic())
        while len(self._turns) > TURNS_KEPT_MAX:
            self._turns.popitem(last=False)

    def begins(self, answer: UUID) -> None:
        """A reader begins."""
        turn = self._turns.get(answer)
        if turn is not None and time.monotonic() - turn.asked_at > SOON_SECONDS_MAX:
            del self._turns[answer]

    def first(self, answer: UUID) -> None:
        """Its first text has come."""
        turn = self._turns.get(answer)
        if turn is not None and turn.first_at is None:
            turn.first_at = time.monotonic()
            self._meter.first_token(turn.model, turn.first_at - turn.began_at)

    def end(self, answer: UUID, end: EntryEnd) -> None:
        """Its end was seen."""
        self._seen_end(answer)
        turn = self._turns.pop(answer, None)
        if turn is None:
            return
        first_at = turn.first_at
        self._meter.served(
            Served(
                turn.model,
                time.monotonic() - turn.began_at,
                None if first_at is None else first_at - turn.began_at,
                end.usage.completion_tokens,
                _error(end),
            )
        )

    def left(self, answer: UUID) -> None:
        """Its reader is gone, whether or not it has seen the end."""
        self._turns.pop(answer, None)


def _error(end: EntryEnd) -> str:
    match end.kind:
        case EndKind.FAIL:
            return end.reason
        case EndKind.CANCELLED:
            return "cancelled"
        case _:
            return ""
