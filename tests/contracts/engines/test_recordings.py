"""Every recording of a real TGI router comes to what `expected.py` says; a new one without a row
there fails."""

import pytest

from infra.engines import tgi_wire
from infra.engines.http import HttpEngine, Timers
from infra.engines.openai import OpenAiEngine
from infra.engines.tgi import TgiEngine
from processors.answers.engine import EngineFailed
from tests.contracts.engines import recordings
from tests.contracts.engines.drive import IMPATIENT, PATIENT, Failed, Outcome, outcome, prompt
from tests.contracts.engines.expected import EXPECTED
from tests.contracts.engines.recordings import Exchange
from tests.contracts.engines.replay import Bytes, ReplayServer


def test_every_recording_has_a_row_and_every_row_a_recording() -> None:
    assert sorted(EXPECTED) == recordings.names()


@pytest.mark.parametrize("name", recordings.names())
async def test_a_recording_is_read_as_it_is_meant(name: str) -> None:
    assert [await what_comes_of(one) for one in recordings.read(name)] == EXPECTED.get(name)


async def what_comes_of(exchange: Exchange) -> object:
    """What the adapter that would have asked makes of the answer."""
    said = Bytes(exchange.received, closes=exchange.closed_by_server)
    timers = PATIENT if exchange.closed_by_server else IMPATIENT
    async with ReplayServer(said) as server:
        server.routes.pop(exchange.path, None)
        if exchange.path in ("/v1/chat/completions", "/v1/completions"):
            server.script, server.routes = said, {"/v1/models": server.routes["/v1/models"]}
            return await _openai(exchange, server, timers)
        if exchange.path == "/v1/models":
            return await _models(OpenAiEngine(server.url + "/v1", timers))
        if exchange.path in ("/tokenize", "/chat_tokenize"):
            return await _read(exchange, server)
        engine = TgiEngine(server.url, timers)
        try:
            if exchange.path == "/health" or (exchange.method, exchange.path) == ("GET", "/"):
                server.routes["/health"] = said
                return await engine.healthy()
            if exchange.method == "POST":
                return await outcome(engine, prompt("x", tokens_max=_asked(exchange)))
            server.routes["/info"] = said
            return await _models(engine)
        finally:
            await engine.close()


async def _openai(exchange: Exchange, server: ReplayServer, timers: Timers) -> Outcome:
    engine = OpenAiEngine(server.url + "/v1", timers)
    try:
        return await outcome(engine, prompt("x", tokens_max=_asked(exchange)))
    finally:
        await engine.close()


async def _models(engine: TgiEngine | OpenAiEngine) -> object:
    try:
        return await engine.models()
    except EngineFailed:
        return Failed("EngineFailed")
    finally:
        await engine.close()


async def _read(exchange: Exchange, server: ReplayServer) -> object:
    http = HttpEngine(server.url, PATIENT)
    reply = await http.call("POST", exchange.path, exchange.body)
    await http.close()
    if reply.status != 200:
        return reply.status
    if exchange.path == "/tokenize":
        return tgi_wire.read_bos_id(reply.json())
    return tgi_wire.read_rendering(reply.json(), bos_id=1)


def _asked(exchange: Exchange) -> int:
    body = exchange.body if isinstance(exchange.body, dict) else {}
    parameters = body.get("parameters") or {}
    asked: int = parameters.get("max_new_tokens") or body.get("max_tokens") or 100
    return asked
