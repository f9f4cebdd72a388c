"""The listener answers Prometheus, in bounds, and whatever fails there stays there."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import Counter, Gauge
from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from infra.metrics import listener
from infra.metrics.listener import (
    CONNECTIONS_MAX,
    HEAD_BYTES_MAX,
    SAMPLES_PER_TURN_MAX,
    serve_metrics,
)
from tests.infra.metrics.reading import Figures

SECONDS_MAX = 30.0


@asynccontextmanager
async def serving(registry: CollectorRegistry) -> AsyncIterator[int]:
    """Its port."""
    bound = socket.create_server(("127.0.0.1", 0))
    port: int = bound.getsockname()[1]
    bound.setblocking(False)
    task = asyncio.create_task(serve_metrics(registry, bound))
    try:
        async with asyncio.timeout(SECONDS_MAX):
            yield port
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        bound.close()


async def said(port: int, request: bytes) -> tuple[str, str]:
    """The head and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answered = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answered.partition("\r\n\r\n")
    return head, body


def get(path: str = "/metrics", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


def counted() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("things_total", "Things.", registry=registry).inc(3)
    return registry


async def test_it_shows_the_figures_as_prometheus_reads_them() -> None:
    async with serving(counted()) as port:
        head, body = await said(port, get("/metrics?x=1"))
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "content-type: text/plain; version=0.0.4; charset=utf-8" in head
    assert f"content-length: {len(body)}" in head
    assert Figures.of(body).value("things_total") == 3


@pytest.mark.parametrize(
    ("request_", "status"),
    [(get("/"), "404"), (get("/api/fleet"), "404"), (get(method="POST"), "405")],
)
async def test_it_shows_nothing_else(request_: bytes, status: str) -> None:
    async with serving(counted()) as port:
        head, _ = await said(port, request_)
    assert head.split()[1] == status


async def test_connections_are_bounded_and_places_come_free_again() -> None:
    async with serving(counted()) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS_MAX)]
        while not await is_hung_up(port, get()):
            pass
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        while await is_hung_up(port, get()):
            pass


async def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "REQUEST_SECONDS_MAX", 0.05)
    async with serving(counted()) as port:
        assert await is_hung_up(port, b"")


async def test_a_head_without_an_end_is_not_kept() -> None:
    async with serving(counted()) as port:
        assert await is_hung_up(port, b"GET /metrics HTTP/1.1\r\nx: " + b"x" * 4 * HEAD_BYTES_MAX)


class Broken(Collector):
    works = False

    def collect(self) -> Iterable[Metric]:
        if not self.works:
            raise ZeroDivisionError
        return ()


async def test_figures_that_cannot_be_read_end_nothing(caplog: pytest.LogCaptureFixture) -> None:
    registry, broken = counted(), Broken()
    registry.register(broken)
    async with serving(registry) as port:
        assert await is_hung_up(port, get())
        broken.works = True
        head, _ = await said(port, get())
    assert head.split()[1] == "200"
    assert "metrics could not be shown" in caplog.text


async def test_a_socket_of_no_use_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    closed = socket.socket()
    closed.close()
    task = asyncio.create_task(serve_metrics(counted(), closed))
    _, pending = await asyncio.wait([task], timeout=0.05)
    assert task in pending
    assert "start the role again" in caplog.text
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_loop_has_turns_within_a_large_family_whose_head_is_said_once() -> None:
    registry, parts = CollectorRegistry(), 20
    family = Gauge("things", "Things.", ["which"], registry=registry)
    numbers = range(parts * SAMPLES_PER_TURN_MAX)
    for number in numbers:
        family.labels(str(number)).set(number)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
    text = await listener.exposition(registry)
    counting.cancel()
    assert turns >= parts
    assert text.count(b"# TYPE") == text.count(b"# HELP") == 1
    shown = Figures.of(text.decode())
    assert [shown.value("things", which=str(each)) for each in numbers] == [*numbers]


async def is_hung_up(port: int, request: bytes) -> bool:
    """Without a word."""
    try:
        return await said(port, request) == ("", "")
    except ConnectionError:
        return True
