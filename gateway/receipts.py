"""How the native API says that a command was stored."""

from collections.abc import Mapping
from uuid import UUID

import orjson
from starlette.responses import Response

from commands.store import Receipt


def accepted(
    status: int, location: str | None, receipt: Receipt, ids: Mapping[str, UUID]
) -> Response:
    """The same for a repeat, byte for byte."""
    body = orjson.dumps(
        {**ids, "receipt": str(receipt), "stored_at": receipt.stored_at.isoformat()}
    )
    headers = {} if location is None else {"location": location}
    return Response(body, status, headers, "application/json")
