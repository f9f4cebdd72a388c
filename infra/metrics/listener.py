"""`GET /metrics` on a port of its own, which the gateway's users never reach.

It answers in the event loop of the role, with a turn of the loop after some samples: a
thread for each request (what the library's own server does) would read what the role changes, and
nobody would bound their number. Everything is bounded, and nothing that fails here ends the role.
"""

import asyncio
import logging
import socket
from collections.abc import Iterable
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

log = logging.getLogger("thalweg.metrics")

CONNECTIONS_MAX = 8
"""At once; Prometheus needs one, or two in a pair. More are closed."""
HEAD_BYTES_MAX = 16_384
REQUEST_SECONDS_MAX = 10.0
"""From the connection to the end of the response: Prometheus itself waits as long by default."""
SAMPLES_PER_TURN_MAX = 50
"""Some 0.5 ms; tokens are carried by the same loop."""
PATH = "/metrics"


class _Part(Collector):
    """Some samples of a family, for the library's encoder."""

    def __init__(self, family: Metric, first: int) -> None:
        self._part = Metric(family.name, family.documentation, family.type)
        self._part.samples = family.samples[first : first + SAMPLES_PER_TURN_MAX]

    def collect(self) -> Iterable[Metric]:
        return (self._part,)


async def exposition(registry: CollectorRegistry) -> bytes:
    """All figures of this moment, or of a few turns of the loop, in Prometheus' text format."""
    parts: list[bytes] = []
    for family in registry.collect():
        for first in range(0, len(family.samples), SAMPLES_PER_TURN_MAX):
            part = generate_latest(_Part(family, first))
            parts.append(_without_head(part) if first else part)
            await asyncio.sleep(0)
    return b"".join(parts)


def _without_head(part: bytes) -> bytes:
    """A family has its lines HELP and TYPE once."""
    return part.split(b"\n", 2)[2]


async def serve_metrics(registry: CollectorRegistry, listener: socket.socket) -> None:
    """Until it is cancelled. It never fails: whoever it stands beside has something to do."""
    try:
        listening = _Listening(registry)
        server = await asyncio.start_server(
            listening.connected, sock=listener, limit=HEAD_BYTES_MAX
        )
    except Exception:
        log.exception("no metrics are shown; start the role again to have them")
        await asyncio.Event().wait()
        return
    try:
        await asyncio.Event().wait()
    finally:
        server.close()  # who reads just now is not waited for


class _Listening:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._open = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._open += 1
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._response(head))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # nobody who is to be told
        except Exception:
            log.exception("metrics could not be shown")
        finally:
            self._open -= 1
            writer.transport.abort()

    async def _response(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path != PATH.encode():
            return _with_head(HTTPStatus.NOT_FOUND, b"The metrics are at /metrics.\n")
        if method != b"GET":
            return _with_head(HTTPStatus.METHOD_NOT_ALLOWED, b"Use GET.\n")
        return _with_head(HTTPStatus.OK, await exposition(self._registry))


def _with_head(status: HTTPStatus, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {CONTENT_TYPE_PLAIN_0_0_4}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
