"""What the verbs that read the log share: arguments, the log itself, and what may go wrong."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from commands.errors import Refused
from events.catalog import BY_TYPE, CONTEXTS
from gateway.log.ports import Logged, Unreadable, Wanted
from infra.api_keys import tenant_named
from infra.event_log import PostgresLog
from infra.servers import resolve
from infra.settings import Settings

FAILED = 1
REFUSED = 2
EVENTS_PER_STEP = 500
"""As many as a step of the log may hold by its bytes, as a rule."""


class WrongArgument(Exception):
    """An argument that can't be used; the message says what is expected."""


def context_named(text: str) -> str:
    if text not in CONTEXTS:
        raise WrongArgument(f"there is no context {text!r}; there are {', '.join(CONTEXTS)}")
    return text


def stream_of(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise WrongArgument(f"{text!r} is not the id of a stream, which is a UUID") from None


def tenant_of(text: str) -> UUID:
    """By its id, or by the name that `thalweg keys` knows it by."""
    try:
        return UUID(text)
    except ValueError:
        return tenant_named(text)


def types_of(names: tuple[str, ...]) -> frozenset[str]:
    for name in names:
        if name not in BY_TYPE:
            raise WrongArgument(
                f"there is no event type {name!r}; docs/asyncapi.yaml lists those there are"
            )
    return frozenset(names)


def time_of(text: str) -> datetime:
    """A time without an offset is this machine's."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongArgument(
            f"{text!r} is not a time; write it such as 2026-11-27T06:30:00Z"
        ) from None


@asynccontextmanager
async def opened(settings: Settings, context: str) -> AsyncIterator[PostgresLog]:
    """The log of a context of this installation."""
    log = PostgresLog(context, resolve(settings).database_url(context))
    await log.open()
    try:
        yield log
    finally:
        await log.close()


async def events_of(log: PostgresLog, wanted: Wanted) -> AsyncIterator[Logged]:
    """Everything that is wanted and there now. Raises StoreUnavailable and Unreadable."""
    place = 0
    while True:
        step = await log.read(wanted, place, events_max=EVENTS_PER_STEP)
        for one in step.found:
            yield one
        if step.at_end or step.past:
            return
        place = step.place


def exit_status(work: Coroutine[Any, Any, int]) -> int:
    """Runs it; what goes wrong is one sentence on standard error."""
    try:
        return asyncio.run(work)
    except WrongArgument as problem:
        status, text = REFUSED, str(problem)
    except (LookupError, Refused, Unreadable) as problem:
        status = FAILED
        text = str(problem.args[0] if isinstance(problem, LookupError) else problem)
    except BrokenPipeError:  # whoever read has had enough
        sys.stderr.close()
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    print(f"{text[:1].upper()}{text[1:]}.", file=sys.stderr)
    return status
