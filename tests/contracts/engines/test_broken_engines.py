"""Engines that hang, trickle, flood and lie: each comes to a named error in bounded time."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from infra.engines.http import Timers
from infra.engines.openai import OpenAiEngine
from infra.engines.tgi import TgiEngine
from infra.servers.ports import free_port
from processors.answers.engine import EngineFailed, FinishReason
from tests.contracts.engines import recordings
from tests.contracts.engines.drive import (
    IMPATIENT,
    PATIENT,
    AdapterType,
    Failed,
    Said,
    outcome,
    prompt,
)
from tests.contracts.engines.replay import Bytes, ReplayServer, Script, client_gone, stream_head

SECONDS_MAX = 30
HEAD = stream_head()
TOKEN = {
    TgiEngine: b'data: {"token":{"id":5,"text":" a","special":false},"details":null}',
    OpenAiEngine: b'data: {"choices":[{"delta":{"content":" a"},"finish_reason":null}]}',
}


@pytest.fixture(params=[TgiEngine, OpenAiEngine])
def adapter(request: pytest.FixtureRequest) -> AdapterType:
    chosen: AdapterType = request.param
    return chosen


@pytest.fixture
async def server() -> AsyncIterator[ReplayServer]:
    async with ReplayServer() as replay:
        yield replay


def engine(adapter: AdapterType, url: str, *, impatient: bool = True) -> TgiEngine | OpenAiEngine:
    timers = IMPATIENT if impatient else PATIENT
    return TgiEngine(url, timers) if adapter is TgiEngine else OpenAiEngine(url + "/v1", timers)


async def bounded(
    adapter: AdapterType, server: ReplayServer, script: Script, *, impatient: bool = True
) -> Failed | Said:
    server.script = script
    asked = engine(adapter, server.url, impatient=impatient)
    try:
        async with asyncio.timeout(SECONDS_MAX):
            return await outcome(asked, prompt("x", tokens_max=50))
    finally:
        await asked.close()


def endless(piece: bytes, *, pause_seconds: float = 0, head: bytes = HEAD) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        deadline = time.monotonic() + 3 * SECONDS_MAX  # for a client that never leaves
        while time.monotonic() < deadline:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return script


FAILED = Failed("EngineFailed")


async def test_nobody_listens(adapter: AdapterType) -> None:
    asked = engine(adapter, f"http://127.0.0.1:{free_port()}")
    assert await outcome(asked, prompt("x")) == FAILED
    assert await asked.healthy() is False
    await asked.close()


async def test_it_accepts_and_says_nothing(adapter: AdapterType, server: ReplayServer) -> None:
    assert await bounded(adapter, server, Bytes(b"", closes=False)) == FAILED


async def test_it_says_headers_and_hangs(adapter: AdapterType, server: ReplayServer) -> None:
    assert await bounded(adapter, server, Bytes(HEAD, closes=False)) == FAILED


async def test_it_hangs_after_a_token(adapter: AdapterType, server: ReplayServer) -> None:
    said = Bytes(HEAD + TOKEN[adapter] + b"\n\n", closes=False)
    assert await bounded(adapter, server, said) == Failed("EngineFailed", (" a",))


async def test_a_stall_is_not_waited_for_as_long_as_a_first_token(
    adapter: AdapterType, server: ReplayServer
) -> None:
    server.script = Bytes(HEAD + TOKEN[adapter] + b"\n\n", closes=False)
    timers = Timers(first_token_seconds_max=1_000, between_tokens_seconds_max=0.2)
    path = "/v1" if adapter is OpenAiEngine else ""
    asked = adapter(server.url + path, timers)
    async with asyncio.timeout(SECONDS_MAX):
        assert await outcome(asked, prompt("x")) == Failed("EngineFailed", (" a",))
    await asked.close()


async def test_comments_alone_do_not_keep_it_alive(
    adapter: AdapterType, server: ReplayServer
) -> None:
    assert await bounded(adapter, server, endless(b":\n\n", pause_seconds=0.05)) == FAILED


async def test_a_flood_of_comments_ends_in_time(adapter: AdapterType, server: ReplayServer) -> None:
    assert await bounded(adapter, server, endless(b": x\n\n" * 10_000)) == FAILED


async def test_a_token_that_trickles_in_is_not_waited_for(
    adapter: AdapterType, server: ReplayServer
) -> None:
    trickle = endless(b"data: {", pause_seconds=0.05)
    assert await bounded(adapter, server, trickle) == FAILED


async def test_an_endless_line_is_not_kept(adapter: AdapterType, server: ReplayServer) -> None:
    flood = endless(b"data: " + b"x" * 65_536)
    assert await bounded(adapter, server, flood, impatient=False) == FAILED


async def test_endless_headers_are_not_kept(adapter: AdapterType, server: ReplayServer) -> None:
    flood = endless(b"x: y\r\n" * 1_000, head=b"HTTP/1.1 200 OK\r\n")
    assert await bounded(adapter, server, flood, impatient=False) == FAILED


async def test_an_endless_error_is_not_kept(adapter: AdapterType, server: ReplayServer) -> None:
    flood = endless(b"x" * 65_536, head=b"HTTP/1.1 500 No\r\n\r\n")
    assert await bounded(adapter, server, flood, impatient=False) == FAILED


async def test_it_says_more_than_it_was_asked_for(
    adapter: AdapterType, server: ReplayServer
) -> None:
    came = await bounded(adapter, server, endless(TOKEN[adapter] + b"\n\n"), impatient=False)
    assert isinstance(came, Said)
    assert (came.tokens, came.reason) == ((" a",) * 50, FinishReason.LENGTH)


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: {\n\n",
        b"data: \xff\xfe\n\n",
        b"data: [1, 2]\n\n",
        b"data: 5\n\n",
        b'data: "text"\n\n',
        b"data: null\n\n",
        b"data: {}\n\n",
        b'data: {"token":{"text":5}}\n\n',
        b'data: {"token":" a"}\n\n',
        b'data: {"token":{"text":"\\ud800"}}\n\n',
        b'data: {"token":{"text":"a"},"details":{"finish_reason":"bored"}}\n\n',
        b'data: {"token":{"text":"a"},"details":[]}\n\n',
        b'data: {"choices":{}}\n\n',
        b'data: {"choices":[5]}\n\n',
        b'data: {"choices":[{"delta":{"content":5}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"bored"}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":["stop"]}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\udc00"}}]}\n\n',
        b"data: [DONE]\n\n",
        b'data: {"error":null}\n\n',
        b'data: {"error":{"message":7,"code":"x"}}\n\n',
        b"<html>bad gateway</html>",
        b"",
    ],
)
async def test_garbage_is_a_failure(
    adapter: AdapterType, server: ReplayServer, garbage: bytes
) -> None:
    assert await bounded(adapter, server, Bytes(HEAD + garbage), impatient=False) == FAILED


@pytest.mark.parametrize(
    "error",
    [
        b'{"error":"Model is overloaded","error_type":"overloaded"}',
        b'{"error":"Input validation error: x","error_type":"validation"}',
        b'{"error":{"message":"x","type":"BadRequestError","code":400}}',
        b'{"error":{"message":"x","code":429}}',
    ],
)
async def test_after_a_token_every_error_is_a_failure_that_another_engine_may_mend(
    adapter: AdapterType, server: ReplayServer, error: bytes
) -> None:
    said = Bytes(HEAD + TOKEN[adapter] + b"\n\ndata: " + error + b"\n\n")
    came = await bounded(adapter, server, said, impatient=False)
    assert came == Failed("EngineFailed", (" a",))


@pytest.mark.parametrize("head", [b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 999\r\n\r\n", b"\0" * 64])
async def test_it_does_not_speak_http(
    adapter: AdapterType, server: ReplayServer, head: bytes
) -> None:
    came = await bounded(adapter, server, Bytes(head), impatient=False)
    assert came == FAILED


async def test_a_redirect_is_not_followed(adapter: AdapterType, server: ReplayServer) -> None:
    away = b"HTTP/1.1 307 Away\r\nlocation: http://127.0.0.1:9/x\r\ncontent-length: 0\r\n\r\n"
    assert await bounded(adapter, server, Bytes(away), impatient=False) == FAILED


@pytest.mark.parametrize("route", ["/info", "/tokenize", "/chat_tokenize", "/v1/models"])
@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", "EngineFailed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{", "EngineFailed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", "EngineFailed"),
        (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", "EngineFailed"),
    ],
)
async def test_lies_on_the_other_routes_are_failures(
    server: ReplayServer, route: str, said: bytes, error: str
) -> None:
    server.routes[route] = Bytes(said)
    adapter: AdapterType = OpenAiEngine if route == "/v1/models" else TgiEngine
    assert await bounded(adapter, server, Bytes(HEAD), impatient=False) == Failed(error)


@pytest.mark.parametrize(("status", "reached"), [(500, True), (503, False)])
async def test_a_balancer_without_an_engine_is_none_that_the_request_has_reached(
    server: ReplayServer, status: int, reached: bool
) -> None:
    server.script = Bytes(b"HTTP/1.1 %d No\r\ncontent-length: 0\r\n\r\n" % status)
    asked = engine(TgiEngine, server.url)
    with pytest.raises(EngineFailed) as raised:
        await anext(asked.generate(prompt("x")))
    assert raised.value.reached is reached
    await asked.close()


async def test_who_is_not_there_is_not_reached(adapter: AdapterType) -> None:
    asked = engine(adapter, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(EngineFailed) as raised:
        await anext(asked.generate(prompt("x")))
    assert not raised.value.reached
    await asked.close()


async def test_a_template_error_is_a_refusal(server: ReplayServer) -> None:
    refused = recordings.read("172_template_error_chat_tokenize")[0].received
    server.routes["/chat_tokenize"] = Bytes(refused)
    assert await bounded(TgiEngine, server, Bytes(HEAD)) == Failed("EngineRefused")


async def test_a_finish_reason_is_enough_though_the_usage_never_comes(
    server: ReplayServer,
) -> None:
    last = b'data: {"choices":[{"delta":{"content":" b"},"finish_reason":"stop"}]}\n\n'
    came = await bounded(OpenAiEngine, server, Bytes(HEAD + last, closes=False))
    assert came == Said((" b",), FinishReason.STOP)


async def test_closing_the_iterator_closes_the_connection(
    adapter: AdapterType, server: ReplayServer
) -> None:
    left = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + TOKEN[adapter] + b"\n\n")
        await client_gone(reader)
        left.set()

    server.script = script
    asked = engine(adapter, server.url, impatient=False)
    spoken = asked.generate(prompt("x"))
    await anext(spoken)
    await spoken.aclose()
    async with asyncio.timeout(SECONDS_MAX):
        await left.wait()
    await asked.close()


async def test_cancelling_the_reader_closes_the_connection(
    adapter: AdapterType, server: ReplayServer
) -> None:
    left, waits = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        waits.set()
        await client_gone(reader)
        left.set()

    server.script = script
    asked = engine(adapter, server.url, impatient=False)
    task = asyncio.create_task(outcome(asked, prompt("x")))
    async with asyncio.timeout(SECONDS_MAX):
        await waits.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await left.wait()
    await asked.close()
