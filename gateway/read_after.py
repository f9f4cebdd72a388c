"""Reading after writing: a read waits until its read model has seen what the client has.

Every read takes `?after=` (where that has another meaning: a header), once or more: a receipt
(`stream:position`) of a command, or the token that an earlier read gave in the header
`x-read-token`. Who sends the newest token, or a receipt, with each read never sees less than
before, at whatever gateway.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from uuid import UUID

from fastapi import Request

from gateway.errors import InvalidRequest, NotAppliedYet
from gateway.limits import GatewayLimits
from gateway.read_ports import Applied, Seen, StreamPosition

HEADER = "x-read-token"
AFTER_HEADER = "x-read-after"
"""The same as `?after=`, for OpenAI's lists, which page by a parameter of that name."""
AFTER_MAX = 8  # of one read: the token of the read before, and receipts since
PARTITIONS_MAX = 4_096  # of a topic; a token has a few bytes for each

_RECEIPT = re.compile(r"([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}):([0-9]{1,10})")
_TOKEN = re.compile(r"([a-z]{1,32})\.([A-Za-z0-9_-]{0,24576})")
_NUMBER_BYTES_MAX = 9  # of a 63-bit offset, seven bits a byte


async def wait_applied(after: Sequence[str], applied: Applied, limits: GatewayLimits) -> bool:
    """Waits until all of `after` is applied. Returns whether a stream of it is parked, so that the
    read shows less. Raises InvalidRequest, and NotAppliedYet after `read_after_seconds_max`.
    """
    if not after:
        return False
    wanted = [parse(text) for text in after]
    if not await applied.wait(wanted, seconds_max=limits.read_after_seconds_max):
        raise NotAppliedYet(limits.read_after_seconds_max)
    streams = [one.stream for one in wanted if isinstance(one, StreamPosition)]
    return bool(streams) and await applied.parked(streams)


def named_in_headers(request: Request) -> Sequence[str]:
    """Raises InvalidRequest."""
    after = request.headers.getlist(AFTER_HEADER)
    if len(after) > AFTER_MAX:
        raise InvalidRequest(f"{AFTER_HEADER} is given {len(after)} times; {AFTER_MAX} may be")
    return after


def token_header(seen: Seen) -> dict[str, str]:
    """What a read has seen, for the next one's `after`."""
    return {HEADER: f"{seen.context}.{_pack(seen)}"}


def parse(text: str) -> StreamPosition | Seen:
    """Raises InvalidRequest."""
    receipt = _RECEIPT.fullmatch(text)
    if receipt is not None:
        return StreamPosition(UUID(receipt[1]), int(receipt[2]))
    token = _TOKEN.fullmatch(text)
    if token is not None:
        try:
            return Seen(token[1], _unpack(token[2]))
        except ValueError:
            pass
    raise InvalidRequest(
        f"after is {text[:64]!r}: it should be a receipt (stream:position) of a command, or the "
        f"{HEADER} of a read",
        "after",
    )


def _pack(seen: Seen) -> str:
    """Offsets from partition 0 on, seven bits a byte, the lowest first (LEB128)."""
    packed = bytearray()
    for partition in range(max(seen.offsets, default=-1) + 1):
        offset = seen.offsets.get(partition, 0)
        while offset > 0x7F:
            packed.append(offset & 0x7F | 0x80)
            offset >>= 7
        packed.append(offset)
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def _unpack(text: str) -> dict[int, int]:
    """The inverse; raises ValueError."""
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError from error
    offsets: dict[int, int] = {}
    offset = shift = 0
    for byte in packed:
        if shift >= 7 * _NUMBER_BYTES_MAX or len(offsets) >= PARTITIONS_MAX:
            raise ValueError
        offset |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
        else:
            offsets[len(offsets)] = offset
            offset = shift = 0
    if shift:
        raise ValueError
    return offsets
