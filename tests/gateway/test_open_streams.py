"""Streams that stay open: pings, clients that leave or take nothing, and a gateway that stops."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx2

from events.answers import Entry
from gateway.server import ServerLimits, serve_gateway
from tests.gateway.fakes import (
    API_KEY,
    MODEL,
    SECONDS_MAX,
    Bench,
    begun,
    calling,
    served,
    spoken,
    until,
    with_limits,
)
from tests.gateway.test_answers import asked, stream_of

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


@asynccontextmanager
async def connected(
    bench: Bench, path: str, buffer_bytes: int = 65_536
) -> AsyncIterator[asyncio.StreamReader]:
    """A client that has asked for a stream and reads its bytes as they come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port, limit=buffer_bytes)
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n\r\n"
    writer.write(head.encode())
    try:
        yield reader
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def up_to(reader: asyncio.StreamReader, what: bytes) -> bytes:
    return await asyncio.wait_for(reader.readuntil(what), SECONDS_MAX)


async def test_a_silent_stream_is_kept_alive(bench: Bench, http: httpx2.AsyncClient) -> None:
    bench.streams.keepalive_seconds = 0.01
    bench.streams.script = begun("Hel")
    posted = await asked(http)
    async with connected(bench, stream_of(posted)) as reader:
        await up_to(reader, b": ping\n\n")
        bench.streams.say(UUID(posted["answer"]), *spoken("Hel", "lo")[1:])
        await up_to(reader, b"event: end\n")
        await up_to(reader, b"0\r\n\r\n")


async def test_each_entry_is_on_its_way_before_the_next_is_said(
    bench: Bench, http: httpx2.AsyncClient
) -> None:
    bench.streams.script = []
    posted = await asked(http)
    async with connected(bench, stream_of(posted)) as reader:
        for entry in begun("a", "b", "c"):
            bench.streams.say(UUID(posted["answer"]), entry)
            await up_to(reader, b'"text":"%b"}\n\n' % entry.text.encode())


async def test_a_client_that_leaves_frees_its_reader_and_cancels_nothing(
    bench: Bench, http: httpx2.AsyncClient
) -> None:
    bench.streams.script = begun("Hel")
    posted = await asked(http)
    async with connected(bench, stream_of(posted)) as reader:
        await up_to(reader, b"Hel")
        assert bench.streams.reading == 1
    await until(lambda: bench.streams.reading == 0)
    assert len(bench.desk.open_streams) == 0
    assert len(bench.events(posted["conversation"])) == 3


async def test_a_client_that_leaves_a_whole_answer_frees_its_reader(bench: Bench) -> None:
    bench.streams.script = begun("Hel")
    async with calling(bench) as http:
        waiting = asyncio.create_task(http.post("/v1/chat/completions", json=CHAT))
        await until(lambda: bench.streams.reading == 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await until(lambda: bench.streams.reading == 0)


def long_answer(chunks: int) -> list[Entry]:
    return begun(*("x" * 1_000 for _ in range(chunks)))


async def test_a_slow_reader_holds_a_cursor_and_not_a_buffer() -> None:
    async with served() as bench, calling(bench) as http:
        bench.streams.script = long_answer(20_000)
        posted = await asked(http)
        async with connected(bench, stream_of(posted), buffer_bytes=1_000) as reader:
            await up_to(reader, b"event: chunk")
            pulled = await settled(bench)
            assert pulled < 15_000  # what the system's socket buffers take, and 64 KiB of ours
            bench.streams.say(UUID(posted["answer"]), *spoken(*["x"] * 20_000)[-1:])
            count = 0
            async with asyncio.timeout(SECONDS_MAX):
                while (chunk := await reader.read(65_536)) and not chunk.endswith(b"0\r\n\r\n"):
                    count += chunk.count(b"event: end")
            assert bench.streams.pulled == 20_001


async def settled(bench: Bench) -> int:
    """How many entries were taken, once no more are."""
    before = -1
    async with asyncio.timeout(SECONDS_MAX):
        while bench.streams.pulled != before:
            before = bench.streams.pulled
            await asyncio.sleep(0.1)
    return before


async def test_a_client_that_takes_nothing_is_dropped() -> None:
    async with served(with_limits(send_seconds_max=0.2)) as bench, calling(bench) as http:
        bench.streams.script = long_answer(20_000)
        posted = await asked(http)
        async with connected(bench, stream_of(posted), buffer_bytes=1_000) as reader:
            await up_to(reader, b"event: chunk")
            await until(lambda: bench.streams.reading == 0)
            assert len(bench.desk.open_streams) == 0


async def test_a_stopping_gateway_sends_native_readers_elsewhere_at_once() -> None:
    async with served(with_limits(drain_seconds_max=SECONDS_MAX)) as bench:
        async with calling(bench) as http:
            bench.streams.script = begun("Hel")
            posted = await asked(http)
        async with connected(bench, stream_of(posted)) as reader:
            await up_to(reader, b"Hel")
            bench.stopping.set()
            rest = await asyncio.wait_for(reader.read(), SECONDS_MAX / 2)
    assert b"event:" not in rest
    assert rest.partition(b"\n\n")[2].split(b"\r\n")[2].startswith(b": this gateway is stopping")
    assert rest.endswith(b"\r\n0\r\n\r\n")  # a clean end: an EventSource comes again


async def chat_stream(http: httpx2.AsyncClient, lines: list[str]) -> None:
    async with http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as got:
        async for line in got.aiter_lines():
            lines.append(line)  # noqa: PERF401 (it is watched while it grows)


async def test_a_ping_on_an_openai_stream_is_one_line(
    bench: Bench, http: httpx2.AsyncClient
) -> None:
    """An empty line after it would make some releases of the official client read an event."""
    bench.streams.keepalive_seconds = 0.01
    bench.streams.script = begun("Hel")
    raw = bytearray()
    async with http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as got:
        async for part in got.aiter_raw():
            raw += part
            if raw.count(b": ping\n") >= 3:
                break
    assert b": ping\n: ping\n" in raw
    assert b": ping\n\n" not in raw
    assert b"\nid:" not in raw
    assert b"retry:" not in raw


async def test_a_stopping_gateway_lets_openai_streams_finish() -> None:
    async with served(with_limits(drain_seconds_max=SECONDS_MAX)) as bench, calling(bench) as http:
        bench.streams.script = begun("Hel")
        lines: list[str] = []
        reading = asyncio.create_task(chat_stream(http, lines))
        await until(lambda: "Hel" in str(lines))
        bench.stopping.set()
        await until(lambda: bench.desk.open_streams.draining)
        bench.streams.say(bench.streams.refs[0].answer, *spoken("Hel", "lo")[1:])
        await asyncio.wait_for(reading, SECONDS_MAX)
    assert lines[-2] == "data: [DONE]"


async def test_an_openai_stream_that_takes_too_long_ends_with_an_error() -> None:
    async with served(with_limits(drain_seconds_max=0.1)) as bench, calling(bench) as http:
        bench.streams.script = begun("Hel")
        lines: list[str] = []
        reading = asyncio.create_task(chat_stream(http, lines))
        whole = asyncio.create_task(http.post("/v1/chat/completions", json=CHAT))
        await until(lambda: "Hel" in str(lines) and bench.streams.reading == 2)
        bench.stopping.set()
        await asyncio.wait_for(reading, SECONDS_MAX)
        answered = await whole
    assert '"code":"gateway_draining"' in lines[-2]
    assert "[DONE]" not in str(lines)
    assert (answered.status_code, answered.json()["error"]["code"]) == (503, "gateway_draining")
    # A repeat that says that it is one joins the turn, whose answer goes on.
    assert answered.headers["retry-after"] == "1"
    assert "x-should-retry" not in answered.headers
    assert answered.headers["location"].startswith("/api/answers/")


async def test_sigterm_stops_it_and_leaves_no_handler() -> None:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    bench = Bench(with_limits())
    serving = asyncio.create_task(
        serve_gateway(bench.app, host="127.0.0.1", port=0, started=port.set_result)
    )
    await asyncio.wait_for(port, SECONDS_MAX)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, SECONDS_MAX)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_a_connection_that_asks_for_nothing_is_closed() -> None:
    async with served(server=ServerLimits(head_seconds_max=0.5)) as bench:
        for sent in (b"", b"GET /livez HTTP/1.1\r\nHost: x\r\n"):
            assert await answer_to(bench, sent) == b""
        assert b" 200 " in await answer_to(bench, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"}")


async def test_an_idle_connection_may_ask_once_more_while_the_gateway_stops() -> None:
    ask = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    async with served(server=ServerLimits(last_request_seconds=1.5)) as bench:
        asking = [await asyncio.open_connection("127.0.0.1", bench.port) for _ in range(3)]
        for reader, writer in asking:
            writer.write(ask)
            assert b"connection: close" not in await reader.readuntil(b"}")
        bench.stopping.set()
        await until(lambda: len(bench.desk.open_streams) == 0 and bench.desk.open_streams.draining)
        for reader, writer in asking[:2]:
            writer.write(ask)
            answered = await asyncio.wait_for(reader.read(), SECONDS_MAX)
            assert answered.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answered
        assert await asyncio.wait_for(asking[2][0].read(), SECONDS_MAX) == b""
        for _, writer in asking:
            writer.close()


async def test_a_head_without_end_is_refused(bench: Bench) -> None:
    endless = b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X-Y: z\r\n" * 20_000
    assert b" 400 " in await answer_to(bench, endless, b"too large.")


async def answer_to(bench: Bench, sent: bytes, end: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    try:
        writer.write(sent)
        reading: Any = reader.readuntil(end) if end else reader.read()
        answered: bytes = await asyncio.wait_for(reading, SECONDS_MAX)
        return answered
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_an_address_that_is_taken_is_an_error_that_says_so(bench: Bench) -> None:
    try:
        await serve_gateway(
            Bench().app, host="127.0.0.1", port=bench.port, stopping=asyncio.Event()
        )
    except OSError as error:
        assert f"127.0.0.1:{bench.port}" in str(error)  # noqa: PT017
    else:
        raise AssertionError("it should not have started")
