"""What a gateway is made of: its ports, joined to the adapters that serve them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from commands.conversations import CONVERSATIONS
from commands.submit import Commands
from events.catalog import CONTEXTS
from events.conversations import Band
from events.topics import Topics
from gateway.answer_streams import AnswerStreams, Pace
from gateway.fleet.view import FleetView
from gateway.limits import GatewayLimits
from gateway.meter import UNMEASURED, Meter
from gateway.parts import Gateway
from infra.engines import open_engines
from infra.engines.names import EnginesByName
from infra.event_log import PostgresLog
from infra.event_store import ConversationStore
from infra.fleet_reader import read_fleet
from infra.health import READY, GroupHealth, Health
from infra.live_streams import RedisLiveStreams
from infra.parked import parked_check
from infra.read_models import (
    AnswersReadModel,
    HistoriesChanges,
    HistoriesReadModel,
    KeysReadModel,
    ReadModels,
    StoredEnds,
    UsageReadModel,
)
from infra.read_models.completions import CompletionsReadModel
from infra.served_models import ServedModels
from infra.settings import Settings
from infra.token_reader import KafkaTokenFolds
from infra.workers_reader import WorkersReader

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

log = logging.getLogger("thalweg.wiring")


@asynccontextmanager
async def gateway_parts(
    settings: Settings,
    store: ConversationStore,
    topics: Topics,
    metrics: CollectorRegistry | None = None,
) -> AsyncIterator[Gateway]:
    """The ports of one gateway over the real servers; closed in the end, but for `store`."""
    async with AsyncExitStack() as stack:
        models = ReadModels(
            settings.database_url("projections"), connections_max=settings.database_connections_max
        )
        stack.push_async_callback(models.close)
        await models.open()
        changes = HistoriesChanges(settings.database_url("projections"))
        await run_beside(stack, changes.run(), name="changes of conversations")
        live = RedisLiveStreams(
            settings.redis_url, prefix=topics.prefix, partitions=settings.partitions
        )
        stack.push_async_callback(live.close)
        await live.start()
        folds = KafkaTokenFolds(settings.kafka_servers, topics, partitions=settings.partitions)
        stack.push_async_callback(folds.close)
        engines = open_engines(settings.engines, settings)
        served = ServedModels(
            engines,
            settings.models_by_alias,
            whole=not any(address.is_name for address in settings.engines),
        )
        stack.push_async_callback(served.close)
        by_name = EnginesByName(settings.engines, settings, served.set_engines, engines=engines)
        await run_beside(stack, by_name.run(), name="engines behind names")
        await run_beside(stack, served.run(), name="models that engines serve")
        fleet = FleetView(settings.models_by_alias)
        reports = WorkersReader(settings.kafka_servers, topics.workers)
        stack.push_async_callback(reports.close)
        await run_beside(stack, read_fleet(reports, fleet), name="what workers report")
        groups = GroupHealth(settings.kafka_servers)
        stack.push_async_callback(groups.close)
        logs = {one: await opened_log(stack, settings, one) for one in CONTEXTS}
        yield Gateway(
            conversations=Commands(store, CONVERSATIONS, event_bytes_max=settings.event_bytes_max),
            receipts=store,
            turns=store,
            keys=KeysReadModel(models),
            completions=CompletionsReadModel(models),
            recordings=store,
            answers=store,
            streams=AnswerStreams(
                live,
                folds,
                [AnswersReadModel(models, StoredEnds(store)), StoredEnds(store)],
                Pace(
                    keepalive_seconds=settings.keepalive_seconds,
                    silent_seconds_max=2 * settings.answer_seconds_max + 60,
                ),
            ),
            models=served,
            fleet=fleet,
            admission=store,
            health=_health(store, topics, live, served, groups, models),
            logs=logs,
            histories=HistoriesReadModel(models),
            changes=changes,
            usage=UsageReadModel(models),
            meter=meter_of(metrics, served.offers),
            limits=GatewayLimits(
                body_bytes_max=settings.body_bytes_max,
                answer_tokens_max=settings.answer_tokens_max,
                answer_tokens_default=settings.answer_tokens_default,
                answer_seconds_max=settings.answer_seconds_max,
                unanswered_requests_max=settings.unanswered_requests_max,
                unanswered_requests_per_tenant_max=settings.unanswered_requests_per_tenant_max,
                contended_seconds_max={
                    Band.PRIORITY: settings.contended_priority_seconds_max,
                    Band.DEFAULT: settings.contended_default_seconds_max,
                },
                no_capacity_seconds_max=settings.no_capacity_seconds_max,
                keepalive_seconds=settings.keepalive_seconds,
                drain_seconds_max=settings.drain_seconds_max,
                read_after_seconds_max=settings.read_after_seconds_max,
            ),
        )


def meter_of(metrics: CollectorRegistry | None, is_served: Callable[[str], bool]) -> Meter:
    if metrics is None:
        return UNMEASURED
    from infra.metrics.gateway import GatewayMeter

    return GatewayMeter(metrics, is_served)


async def opened_log(stack: AsyncExitStack, settings: Settings, context: str) -> PostgresLog:
    """The log of a context, on connections of its own; closed with the stack."""
    log_of_context = PostgresLog(context, settings.database_url(context))
    stack.push_async_callback(log_of_context.close)
    await log_of_context.open()
    return log_of_context


def _health(
    store: ConversationStore,
    topics: Topics,
    live: RedisLiveStreams,
    served: ServedModels,
    groups: GroupHealth,
    models: ReadModels,
) -> Health:

    async def postgres() -> str:
        await store.ping()
        return READY

    async def redis() -> str:
        await live.ping()
        return READY

    async def engines() -> str:
        return READY if served.reachable else "no engine answers"

    checks = {
        "postgres": postgres,
        "redis": redis,
        "engines": engines,
        "answers": groups.check(topics.answers_group),
        "recorder": groups.check(topics.recorder_group),
        "projections": parked_check(models),
    }
    return Health(checks, commands_need=["postgres"], told_only=["projections"])


async def run_beside(
    stack: AsyncExitStack, work: Coroutine[object, object, None], *, name: str
) -> None:
    """Runs `work` until the stack is left. If it fails, what is inside the stack is cancelled and
    the stack raises: nobody goes on without it, and the supervisor starts the role again.
    """

    async def noticed() -> None:
        try:
            await work
        except Exception:
            log.exception("a task of this role failed, so the role ends", extra={"task": name})
            raise

    group = await stack.enter_async_context(asyncio.TaskGroup())
    task = group.create_task(noticed(), name=name)
    stack.callback(task.cancel)
