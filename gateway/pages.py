"""Pages of a list: an opaque cursor says below which item the next one begins.

A cursor names the last item that was given, never a number of items. So whatever changes meanwhile,
an item that does not move is neither repeated nor left out.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, ClassVar, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.responses import Response

from gateway.errors import Declined, InvalidRequest
from gateway.intake import validated
from gateway.read_after import AFTER_MAX

PAGE_ITEMS_DEFAULT = 20
PAGE_ITEMS_MAX = 100  # some 100 kB of conversations
CURSOR_CHARACTERS_MAX = 4_096

Place = TypeVar("Place")
Query = TypeVar("Query", bound="ReadQuery")

Limit = Annotated[int, Field(ge=1, le=PAGE_ITEMS_MAX)]


@dataclass(unsafe_hash=True)
class InvalidCursor(Declined):
    CODE: ClassVar[str] = "invalid_cursor"

    def __str__(self) -> str:
        return (
            "the cursor is not one that this list has given for the same question; send `next` of "
            "the page before as it is, or leave it out to begin again"
        )

    @property
    def parameter(self) -> str | None:
        return "cursor"


class ReadQuery(BaseModel):
    """Parameters that every read takes; others are refused by name."""

    model_config = ConfigDict(extra="forbid")

    after: Annotated[list[str], Field(max_length=AFTER_MAX)] = Field(default_factory=list)
    """See read_after."""


class PageQuery(ReadQuery):
    limit: Limit = PAGE_ITEMS_DEFAULT
    cursor: Annotated[str, Field(max_length=CURSOR_CHARACTERS_MAX)] | None = None


def query_of(request: Request, kind: type[Query]) -> Query:
    """The query as a `kind`. Raises InvalidRequest and UnsupportedParameter."""
    given: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name == "after":
            given.setdefault(name, []).append(value)
        elif name in given:
            raise InvalidRequest(f"{name} is given twice; give it once", name)
        else:
            given[name] = value
    return validated(kind, given)


def cursor_of(list_name: str, question: Sequence[object], place: object) -> str:
    """What stands for a place in a list that answers a question (whose, filtered by what)."""
    packed = orjson.dumps([_digest(list_name, question), place])
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def place_of(
    cursor: str | None, list_name: str, question: Sequence[object], kind: type[Place]
) -> Place | None:
    """The place that `cursor_of` got. Raises InvalidCursor."""
    if cursor is None:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        digest, place = orjson.loads(base64.b64decode(padded, b"-_", validate=True))
        if digest != _digest(list_name, question):
            raise InvalidCursor
        return TypeAdapter(kind).validate_python(place)
    except (UnicodeEncodeError, binascii.Error, ValueError, TypeError, ValidationError):
        raise InvalidCursor from None


def _digest(list_name: str, question: Sequence[object]) -> str:
    return sha256(orjson.dumps([list_name, *question], default=str)).hexdigest()[:12]


def page(
    items: Sequence[Mapping[str, Any]],
    next_cursor: str | None,
    *,
    headers: Mapping[str, str],
    **more: object,
) -> Response:
    return answered({"data": items, "next": next_cursor, **more}, headers)


def answered(body: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    """JSON that nobody keeps: it is newest only now."""
    content = orjson.dumps(body, option=orjson.OPT_UTC_Z)
    return Response(content, 200, {"cache-control": "no-store", **headers}, "application/json")
