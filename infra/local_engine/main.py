"""The local engine as a server: routes, start and orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from aiohttp import web

from infra.local_engine import limits
from infra.local_engine.chat_routes import VERSION, ChatRoutes
from infra.local_engine.engine import LocalEngine
from infra.local_engine.generate_routes import GenerateRoutes
from infra.local_engine.model import Model
from infra.local_engine.wire import common_headers, json_response, wire_errors

DEMO_MODEL = Path(__file__).resolve().parents[2] / "demo_model" / "ct2"
# The library's threads ask for the interpreter at each token; five milliseconds, Python's default,
# is fifty tokens of the demo model.
switch_interval_seconds = 0.0005


class AboutRoutes:
    """Health, metrics, and what this engine is."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    async def health(self, request: web.Request) -> web.StreamResponse:
        """GET /health: 200, or 503 if the model fails."""
        await self._engine.check_health()
        return web.Response(headers={"content-length": "0"})

    async def info(self, request: web.Request) -> web.StreamResponse:
        """GET /info."""
        return json_response(
            {
                "model_id": self._engine.model.name,
                "model_sha": None,
                "model_pipeline_tag": None,
                "max_concurrent_requests": self._engine.concurrent_requests_max,
                "max_best_of": 1,
                "max_stop_sequences": limits.stop_sequences_max,
                "max_input_tokens": limits.input_tokens_max,
                "max_total_tokens": limits.total_tokens_max,
                "validation_workers": 1,
                "max_client_batch_size": 1,
                "router": "thalweg-local-engine",
                "version": VERSION,
                "sha": None,
                "docker_label": None,
            }
        )

    async def models(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/models: the one that is loaded."""
        name = self._engine.model.name
        entry = {"id": name, "object": "model", "created": 0, "owned_by": name}
        return json_response({"object": "list", "data": [entry]})

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """GET /metrics."""
        return web.Response(text=self._engine.metrics.text())


def application(engine: LocalEngine) -> web.Application:
    """All routes around one engine."""
    app = web.Application(client_max_size=limits.body_bytes_max, middlewares=[wire_errors])
    app.on_response_prepare.append(common_headers)
    generate, chat, about = GenerateRoutes(engine), ChatRoutes(engine), AboutRoutes(engine)
    app.add_routes(
        [
            web.post("/", generate.root),
            web.post("/generate", generate.generate),
            web.post("/generate_stream", generate.generate_stream),
            web.post("/tokenize", generate.tokenize),
            web.post("/chat_tokenize", chat.chat_tokenize),
            web.post("/v1/chat/completions", chat.chat),
            web.post("/v1/completions", chat.completions),
            web.get("/v1/models", about.models),
            web.get("/health", about.health),
            web.get("/info", about.info),
            web.get("/metrics", about.metrics),
        ]
    )
    return app


@contextlib.asynccontextmanager
async def running(
    host: str, port: int, model: Path, *, concurrent_requests_max: int
) -> AsyncGenerator[int]:
    """A server for as long as the context lasts; gives the port. Leaving it drains the streams."""
    loaded = await asyncio.to_thread(Model, model)
    engine = LocalEngine(loaded, concurrent_requests_max=concurrent_requests_max)
    runner = web.AppRunner(
        application(engine),
        handle_signals=False,
        handler_cancellation=True,  # a closed connection cancels the generation
        shutdown_timeout=limits.drain_seconds_max,
        keepalive_timeout=limits.idle_connection_seconds_max,
        access_log=None,
    )
    try:
        await runner.setup()
        await web.TCPSite(runner, host, port, backlog=1024).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
        await asyncio.to_thread(loaded.close)


async def serve(
    host: str, port: int, model: Path = DEMO_MODEL, *, max_concurrent_requests: int = 128
) -> None:
    """Serves until it is cancelled or the process gets SIGTERM or SIGINT; then drains."""
    sys.setswitchinterval(switch_interval_seconds)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        async with running(host, port, model, concurrent_requests_max=max_concurrent_requests):
            await stop.wait()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
