"""The one place that joins rooms and adapters: what each role is made of.

Each role imports what it is made of when it is started, so that none pays for the others.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from commands.errors import StoreUnavailable
from events.catalog import CONTEXTS
from events.topics import Topics
from infra import api_keys
from infra.event_store import (
    AccountStore,
    ConversationStore,
    open_account_store,
    open_conversation_store,
)
from infra.settings import Settings

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

    from infra.relay import Relay
    from processors.answers.recorder import Recorder

TOPICS = Topics()
FIRST_KEY_NAME = "first"
OPEN_AGAIN_SECONDS = 1.0  # Postgres restarts in about that

T = TypeVar("T")

log = logging.getLogger("thalweg.wiring")


@dataclass(frozen=True)
class Succession:
    """What a life of a role has of the one before it, and what it says once it works."""

    listener: socket.socket | None = None
    """Where the gateway takes connections; None: it listens at its address."""
    works: Callable[[], None] = lambda: None
    metrics: CollectorRegistry | None = None
    """Where the role's figures are shown; None: nobody counts."""


ALONE = Succession()


# What the supervisor and the command line ask for ----------------------------------------------


async def prepare(settings: Settings) -> list[str]:
    """Makes the schemas and the topics, or refuses those that would break a promise. Idempotent.

    Returns the names of the topics that it has made.
    """
    from infra.kafka.topics import make_topics
    from infra.sagas import role as sagas

    async def schemas() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(conversations_of(settings))
            await stack.enter_async_context(accounts_of(settings))
        await sagas.prepare(settings)

    async with asyncio.TaskGroup() as group:
        group.create_task(schemas())
        making = group.create_task(make_topics(settings.kafka_servers, TOPICS, settings))
    return making.result()


async def check_topics(settings: Settings) -> None:
    """Refuses topics that are missing or would break a promise; a Kafka that is away is let be."""
    from infra.kafka import topics

    try:
        await topics.check_topics(settings.kafka_servers, TOPICS, settings)
    except topics.KafkaSilent as silent:
        log.warning("the topics could not be checked", extra={"reason": str(silent)})


async def first_key(settings: Settings) -> str:
    """An API key of the default tenant, for a home that has none yet."""
    _, key, _ = await api_keys.make_key(settings, name=FIRST_KEY_NAME)
    return key


async def create_key(settings: Settings, *, name: str, tenant: str) -> str:
    """A new API key. Returns when the gateway's read model knows it, or after a bound."""
    _, key, receipt = await api_keys.make_key(settings, name=name, tenant=tenant)
    await _wait_for_keys(settings, receipt.stream, receipt.position)
    return key


async def list_keys(
    settings: Settings, *, tenant: str = api_keys.DEFAULT_TENANT
) -> list[api_keys.KeyRow]:
    """The tenant's keys, revoked ones too."""
    return await api_keys.list_keys(settings, tenant=tenant)


async def revoke_key(
    settings: Settings, key: UUID, *, tenant: str = api_keys.DEFAULT_TENANT
) -> None:
    """Takes a key out of service; gateways forget it within some seconds. Raises UnknownKey."""
    receipt = await api_keys.withdraw_key(settings, key, tenant=tenant)
    await _wait_for_keys(settings, receipt.stream, receipt.position)


async def run_role(role: str, settings: Settings, succession: Succession = ALONE) -> None:
    """Runs a role until it is cancelled; then it finishes in good order."""
    if role == "gateway":
        await _gateway(settings, succession)
    else:
        succession.works()
        await _ROLES[role](settings, succession.metrics)


# Roles -----------------------------------------------------------------------------------------


async def _gateway(settings: Settings, succession: Succession) -> None:
    from gateway.app import create_app, desk_of
    from gateway.server import serve_gateway
    from infra.wiring_gateway import gateway_parts

    async with (
        conversations_waited_for(settings) as store,
        gateway_parts(settings, store, TOPICS, succession.metrics) as parts,
    ):
        stopping = asyncio.Event()
        app = create_app(parts)
        if succession.metrics is not None:
            from infra.metrics.gateway import GatewayFigures

            succession.metrics.register(GatewayFigures(desk_of(app).open_streams.__len__))
        serving = serve_gateway(
            app,
            host=settings.host,
            port=settings.port,
            listener=succession.listener,
            stopping=stopping,
            started=lambda _: succession.works(),
        )
        await _until_cancelled(serving, stopping.set)


async def _relay(settings: Settings, metrics: CollectorRegistry | None) -> None:
    from infra.kafka.producer import Producer
    from infra.relay import Relay, stopped_alone

    relays: dict[str, Relay] = {}
    if metrics is not None:
        from infra.metrics.log_roles import RelayFigures

        metrics.register(RelayFigures(relays.items))

    async def one(context: str) -> None:
        producer = Producer(settings.kafka_servers, client_id=f"relay-{context}")
        await producer.start()
        relay = relays[context] = Relay(
            context,
            settings.database_url(context),
            producer,
            TOPICS,
            lease_seconds_max=settings.lease_seconds_max,
            events_per_read_max=settings.relay_events_per_read_max,
        )
        try:
            await stopped_alone(context, _until_cancelled(relay.run(), relay.stop))
        finally:
            await producer.close()

    async with asyncio.TaskGroup() as group:
        for context in CONTEXTS:
            group.create_task(one(context))


async def _answers(settings: Settings, metrics: CollectorRegistry | None) -> None:
    from infra.answers_worker import run_answers

    async with conversations_waited_for(settings) as store:
        await run_answers(settings, TOPICS, store, metrics=metrics)


async def _recorder(settings: Settings, metrics: CollectorRegistry | None) -> None:
    from infra.key_sweeper import sweep_keys
    from infra.recorder import run_recorder

    began = _recorder_figures(metrics)
    async with conversations_waited_for(settings) as store, asyncio.TaskGroup() as group:
        group.create_task(run_recorder(settings, TOPICS, store, began=began))
        group.create_task(sweep_keys(store))


def _recorder_figures(metrics: CollectorRegistry | None) -> Callable[[Recorder], None]:
    if metrics is None:
        return lambda recorder: None
    from infra.metrics.log_roles import RecorderFigures

    figures = RecorderFigures()
    metrics.register(figures)
    return figures.of


async def _projections(settings: Settings, _: CollectorRegistry | None) -> None:
    from infra.projections import run_projections

    await run_projections(settings, TOPICS)


async def _sagas(settings: Settings, _: CollectorRegistry | None) -> None:
    from infra.sagas.role import run_sagas

    async with conversations_waited_for(settings) as store:
        await run_sagas(settings, TOPICS, store)


async def _engine(settings: Settings, _: CollectorRegistry | None) -> None:
    from infra.local_engine.main import serve

    await serve(settings.engine_host, settings.engine_port)


_ROLES: dict[str, Callable[[Settings, CollectorRegistry | None], Awaitable[None]]] = {
    "relay": _relay,
    "answers": _answers,
    "recorder": _recorder,
    "projections": _projections,
    "sagas": _sagas,
    "engine": _engine,
}


# Parts -----------------------------------------------------------------------------------------


@asynccontextmanager
async def conversations_of(settings: Settings) -> AsyncIterator[ConversationStore]:
    """Raises StoreUnavailable."""
    async with _closed_after(await _open_conversations(settings)) as store:
        yield store


@asynccontextmanager
async def conversations_waited_for(settings: Settings) -> AsyncIterator[ConversationStore]:
    """For roles: while Postgres is away they have nothing to do but wait, and say so."""
    waiting_since = time.monotonic()
    while True:
        try:
            store = await _open_conversations(settings)
            break
        except StoreUnavailable as problem:
            seconds = round(time.monotonic() - waiting_since)
            extra = {"waiting_seconds": seconds, "reason": str(problem)}
            log.warning("waits for the event store of the conversations", extra=extra)
            await asyncio.sleep(OPEN_AGAIN_SECONDS)
    async with _closed_after(store):
        yield store


async def _open_conversations(settings: Settings) -> ConversationStore:
    return await open_conversation_store(
        settings.database_url("conversations"),
        commands_queued_max=settings.commands_queued_max,
        commands_per_transaction_max=settings.commands_per_transaction_max,
        connections_max=settings.database_connections_max,
        unstored_seconds_max=settings.unstored_seconds_max,
        unended_seconds_max=settings.tokens_retention,
        repeat_seconds_max=settings.repeat_seconds_max,
    )


@asynccontextmanager
async def _closed_after(store: ConversationStore) -> AsyncIterator[ConversationStore]:
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def accounts_of(settings: Settings) -> AsyncIterator[AccountStore]:
    store = await open_account_store(settings.database_url("accounts"))
    try:
        yield store
    finally:
        await store.close()


async def _wait_for_keys(settings: Settings, stream: UUID, position: int) -> None:
    from infra.read_models import KeysReadModel, ReadModels

    models = ReadModels(settings.database_url("projections"), connections_max=1)
    await models.open()
    try:
        await KeysReadModel(models).wait_applied(
            stream, position, seconds_max=settings.read_after_seconds_max
        )
    finally:
        await models.close()


async def _until_cancelled(work: Coroutine[object, object, T], stop: Callable[[], None]) -> T:
    """Runs `work`; when this is cancelled, tells it to stop and waits until it has ended."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop()
        await task
        raise
