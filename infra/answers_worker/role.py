"""The role `answers`: one worker, its Faust app, and what they need; outages are waited out."""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

from aiokafka.errors import GroupAuthorizationFailedError, InvalidSessionTimeoutError

from events.conversations import Band
from events.ids import fresh_id
from events.topics import Topics
from infra.answers_worker.app import AnswersApp
from infra.answers_worker.decisions_log import DecisionsLog
from infra.answers_worker.tasks import Store, StoreRequests
from infra.answers_worker.tokens import KafkaTokens
from infra.answers_worker.transport import GroupRefused
from infra.answers_worker.watermarks import Watermarks
from infra.answers_worker.work import KafkaWork
from infra.answers_worker.workers_log import WorkersLog
from infra.engine_addresses import EngineAddress
from infra.engines import open_engines
from infra.engines.names import EnginesByName
from infra.limits import Limits
from infra.settings import Settings
from processors.answers.dispatch import Dispatcher, DispatchLimits
from processors.answers.engine import Engine
from processors.answers.meter import UNMEASURED
from processors.answers.protocol_words import Bounds
from processors.answers.scheduling.retries import RetryLimits
from processors.answers.scheduling.seats import SeatLimits
from processors.answers.scheduling.work import Patience, QueueLimits
from processors.answers.surroundings import HoldingLimits
from processors.answers.worker import PRIORITY_TIMES_MAX, Worker, WorkerLimits

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

    from infra.metrics.answers import AnswersMeter

log = logging.getLogger("thalweg.answers")

START_AGAIN_SECONDS = 0.5  # before joining the group again after Faust has given up
REFUSALS_MAX = 5  # in a row; more will not help, and a person should read why
STOP_SECONDS_MAX = 5.0  # to leave the group in good order; after it Kafka finds out by itself
LOAD_AGAIN_SECONDS = 0.5  # before the event store is asked again: Postgres restarts in a second
PRODUCE_SECONDS_MAX = 5.0  # longer than a broker's restart; then what is unsent is claimed again


class NoMember(Exception):
    """Kafka does not let this worker into its group, however often it tries."""

    def __init__(self, group: str, refused: GroupRefused) -> None:
        todo = "look into the brokers' logs"
        match refused.__cause__:
            case InvalidSessionTimeoutError():
                todo = (
                    "set THALWEG_SESSION_TIMEOUT_SECONDS to what the brokers allow "
                    "(group.min.session.timeout.ms to group.max.session.timeout.ms), or change that"
                )
            case GroupAuthorizationFailedError():
                todo = f"allow this user to read the group {group}"
        super().__init__(f"{refused} of the group {group}; {todo}")


def worker_limits(limits: Limits) -> WorkerLimits:
    """The worker's share of the settings."""
    return WorkerLimits(
        holding=HoldingLimits(
            bounds=Bounds(
                claims_without_progress_max=limits.claims_without_progress_max,
                answer_bytes_max=limits.answer_bytes_max,
            ),
            answer_seconds_max=limits.answer_seconds_max,
            claim_again_seconds=limits.claim_again_seconds,
            load_again_seconds=LOAD_AGAIN_SECONDS,
            chunk_delay_seconds_max=limits.chunk_delay_seconds_max,
            chunk_bytes_max=limits.chunk_bytes_max,
            answer_logprobs_bytes_max=limits.answer_logprobs_bytes_max,
        ),
        unfinished_requests_max=limits.unfinished_requests_max,
        token_margin_seconds=limits.token_margin_seconds,
    )


def dispatch_limits(limits: Limits) -> DispatchLimits:
    """The dispatcher's share of the settings."""
    patience = {
        Band.PRIORITY: Patience(inf, limits.contended_priority_seconds_max),
        Band.DEFAULT: Patience(
            limits.waited_default_seconds_max, limits.contended_default_seconds_max
        ),
        Band.FLEX: Patience(limits.waited_flex_seconds_max, inf),
    }
    return DispatchLimits(
        queue=QueueLimits(
            queued_max=limits.unfinished_requests_max * (PRIORITY_TIMES_MAX + 1),
            no_capacity_seconds_max=limits.no_capacity_seconds_max,
            patience=patience,
        ),
        seats=SeatLimits(
            batch_requests=limits.engine_requests_max,
            ahead_requests=limits.engine_requests_ahead_max,
            batch_tokens=limits.engine_batch_tokens_max,
        ),
        retries=RetryLimits(share=limits.retries_share_max),
    )


async def run_answers(
    settings: Settings,
    topics: Topics,
    store: Store,
    *,
    engines: Sequence[Engine] | None = None,
    metrics: "CollectorRegistry | None" = None,
) -> None:
    """Runs a worker until it is cancelled; then its partitions go to others at once."""
    bootstrap = settings.kafka_servers
    watermarks = Watermarks()
    tokens = KafkaTokens(bootstrap, topics.tokens, produce_seconds_max=PRODUCE_SECONDS_MAX)
    work = KafkaWork(bootstrap, topics, watermarks)
    workers = WorkersLog(bootstrap, topics.workers)
    name = f"{socket.gethostname()}-{os.getpid()}-{fresh_id().hex[-6:]}"
    decisions = DecisionsLog(bootstrap, topics.decisions, name)
    names: Sequence[EngineAddress] = ()
    if engines is None:
        engines, names = open_engines(settings.engines, settings), settings.engines
    meter = None if metrics is None else _meter(metrics)
    dispatcher = Dispatcher(
        engines,
        dispatch_limits(settings),
        worker=name,
        partitions=settings.partitions,
        whole=not any(address.is_name for address in names),
        say=workers.say,
        decide=decisions.say,
        meter=UNMEASURED if meter is None else meter,
    )
    by_name = EnginesByName(names, settings, dispatcher.set_engines, engines=engines)
    worker = Worker(
        name,
        tokens=tokens,
        work=work,
        requests=StoreRequests(store, answer_tokens_max=settings.answer_tokens_max),
        dispatcher=dispatcher,
        limits=worker_limits(settings),
    )
    if meter is not None:
        meter.watch(
            engine=dispatcher.engine,
            report=lambda: dispatcher.report(worker.held),
            decisions_lost=lambda: decisions.lost,
        )
    try:
        await asyncio.gather(tokens.start(), work.start(), workers.start(), decisions.start())
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            group.create_task(by_name.run())
            group.create_task(workers.hear(dispatcher.heard))
            group.create_task(workers.report(lambda: dispatcher.report(worker.held)))
            group.create_task(_consume(settings, topics, worker, watermarks, work))
    finally:
        await tokens.close()
        await work.close()
        await dispatcher.close()
        await workers.close()
        await decisions.close()


def _meter(metrics: "CollectorRegistry") -> "AnswersMeter":
    from infra.metrics.answers import AnswersMeter

    return AnswersMeter(metrics)


async def _consume(
    settings: Settings, topics: Topics, worker: Worker, watermarks: Watermarks, work: KafkaWork
) -> None:
    """Keeps a Faust app running: one that has crashed is replaced. The worker goes on meanwhile,
    but claims nothing over others. Raises NoMember.
    """
    refusals = 0
    while True:
        app = AnswersApp(settings, topics, worker, watermarks, loop=asyncio.get_running_loop())
        work.pressure = app.consumer
        try:
            await app.start()
            await app.wait_until_stopped()
        except Exception as error:
            log.warning("the Kafka consumer could not run", extra={"error": repr(error)})
        finally:
            work.pressure = None
            await _stop(app)
        reason = app.crash_reason
        if isinstance(reason, GroupRefused) and not app.was_assigned:
            refusals += 1
            if refusals >= REFUSALS_MAX:
                raise NoMember(topics.answers_group, reason)
        else:
            refusals = 0
        log.warning("the Kafka consumer starts over", extra={"reason": repr(reason)})
        await asyncio.sleep(START_AGAIN_SECONDS)


async def _stop(app: AnswersApp) -> None:
    try:
        async with asyncio.timeout(STOP_SECONDS_MAX):
            await app.stop()
    except TimeoutError:
        log.warning("the Kafka consumer did not stop in time")
    except Exception:
        log.exception("the Kafka consumer did not stop in good order")
