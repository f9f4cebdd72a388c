"""What clients are told about sending again what was refused.

Official OpenAI clients obey `retry-after-ms` and `x-should-retry`, and would repeat a 409. A wait
of more than `CLIENTS_WAIT_SECONDS_MAX` they don't take: they would send it again within seconds.
"""

from commands import errors as commands
from gateway.errors import (
    Declined,
    Draining,
    ListBehind,
    NotAppliedYet,
    PerhapsAccepted,
    Unavailable,
    status_of,
)
from gateway.fleet.errors import FleetContended, NoEngine, NoModelKnown, TooManyUnanswered
from gateway.log.errors import TooManyReaders

CLIENTS_WAIT_SECONDS_MAX = 120.0
"""Of the official Python client (`MAX_RETRY_AFTER_DELAY`); older ones wait for 60 s."""

NOT_AGAIN = {"x-should-retry": "false"}

AGAIN_SOON = (
    commands.StoreUnavailable,
    commands.StoreSaturated,
    commands.Busy,
    NoModelKnown,
    Draining,
    Unavailable,
    TooManyReaders,
    NotAppliedYet,
    ListBehind,
)
"""Refusals that a moment mends."""


def retry_headers(error: Declined | commands.Refused) -> dict[str, str]:
    """Of the response that says the refusal."""
    if isinstance(error, TooManyUnanswered | FleetContended | NoEngine):
        seconds = error.retry_after_seconds
        whole = max(1, -int(-seconds // 1))
        after = {"retry-after": str(whole), "retry-after-ms": str(round(seconds * 1000))}
        return after if seconds <= CLIENTS_WAIT_SECONDS_MAX else after | NOT_AGAIN
    if isinstance(error, PerhapsAccepted):
        return dict(NOT_AGAIN)
    if isinstance(error, AGAIN_SOON):
        return {"retry-after": "1", "retry-after-ms": "1000"}
    if status_of(error) == 409:
        return dict(NOT_AGAIN)
    return {}
