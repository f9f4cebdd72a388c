"""What a request for the log asks: its query parameters, each checked, none ignored."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from fastapi import Request

from events.catalog import BY_TYPE, CONTEXTS
from gateway.errors import InvalidRequest, UnsupportedParameter
from gateway.log.errors import OtherTenant
from gateway.log.ports import Wanted
from gateway.ports import Caller
from gateway.read_after import parse

EVENTS = frozenset({"context", "from", "stream", "type", "tenant", "since", "until"})
STREAM = frozenset({"context", "from"})
BOUNDS = frozenset({"limit", "follow", "after"})
REPEATED = frozenset({"type", "after"})

_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Asked:
    """One reading, as it was asked for."""

    context: str
    wanted: Wanted
    first: int
    """`from`: a place of the log, or a position of the one stream that is read."""
    by_position: bool
    limit: int | None
    follow: bool


def asked_of_log(request: Request, caller: Caller, *, limit_max: int) -> Asked:
    """Raises InvalidRequest, UnsupportedParameter and OtherTenant."""
    found = _single(request, EVENTS | BOUNDS)
    tenant = _id("tenant", found["tenant"]) if "tenant" in found else caller.tenant
    if tenant != caller.tenant:
        raise OtherTenant(tenant)
    since, until = _time(found, "since"), _time(found, "until")
    if since and until and since >= until:
        raise InvalidRequest("since should be before until", "since")
    wanted = Wanted(
        tenant=caller.tenant,
        stream=_id("stream", found["stream"]) if "stream" in found else None,
        types=_types(request),
        since=since,
        until=until,
    )
    return _asked(found, wanted, limit_max, by_position=False)


def asked_of_stream(request: Request, caller: Caller, stream: UUID, *, limit_max: int) -> Asked:
    """Raises InvalidRequest and UnsupportedParameter."""
    found = _single(request, STREAM | BOUNDS)
    first = _number(found, "from", 1)
    wanted = Wanted(tenant=caller.tenant, stream=stream, from_position=first)
    return _asked(found, wanted, limit_max, by_position=True)


def _asked(found: dict[str, str], wanted: Wanted, limit_max: int, *, by_position: bool) -> Asked:
    context = found.get("context", "conversations")
    if context not in CONTEXTS:
        known = ", ".join(CONTEXTS)
        raise InvalidRequest(f"context is {context[:64]!r}: it should be one of {known}", "context")
    follow = found.get("follow", "false")
    if follow not in ("true", "false"):
        raise InvalidRequest("follow should be true or false", "follow")
    limit = _number(found, "limit", 1, limit_max) if "limit" in found else None
    return Asked(context, wanted, _number(found, "from", 1), by_position, limit, follow == "true")


def _single(request: Request, known: Collection[str]) -> dict[str, str]:
    """Of what may come more than once, the last. `after` is only looked at: as in every read it
    may be there, and the log itself is never behind.
    """
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise UnsupportedParameter(
                f"the parameter {name[:64]!r} is not supported; there are "
                f"{', '.join(sorted(known))}",
                name[:64],
            )
        if name in found and name not in REPEATED:
            raise InvalidRequest(f"{name} is given twice; give it once", name)
        if name == "after":
            parse(value)
        found[name] = value
    return found


def _types(request: Request) -> frozenset[str]:
    types = frozenset(request.query_params.getlist("type"))
    unknown = [one for one in sorted(types) if one not in BY_TYPE]
    if unknown:
        raise InvalidRequest(
            f"there is no event type {unknown[0][:128]!r}; docs/asyncapi.yaml lists those there "
            "are. Give one type= for each that you want",
            "type",
        )
    return types


def _number(found: dict[str, str], name: str, least: int, most: int | None = None) -> int:
    text = found.get(name, str(least))
    number = int(text) if _NUMBER.fullmatch(text) else -1
    if number < least or (most is not None and number > most):
        bounds = f"from {least}" if most is None else f"from {least} to {most}"
        raise InvalidRequest(f"{name} is {text[:64]!r}: it should be a whole number {bounds}", name)
    return number


def _id(name: str, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidRequest(f"{name} is {text[:64]!r}: it should be a UUID", name) from None


def _time(found: dict[str, str], name: str) -> datetime | None:
    if name not in found:
        return None
    text = found[name]
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError("no offset")
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{name} is {text[:64]!r}: it should be a time with its offset, such as "
            "2026-11-27T06:30:00Z (a + in an address is written %2B)",
            name,
        ) from None
