"""What a worker does when Kafka does not let it into its group, on a real broker."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from aiokafka import errors
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance
from faust.types import TP

from infra.answers_worker import run_answers, transport
from infra.answers_worker.app import AnswersApp
from infra.answers_worker.role import NoMember
from infra.answers_worker.watermarks import Watermarks
from tests.contracts.worker.asking import Installation, numbers
from tests.contracts.worker.test_transport import running

SECONDS_MAX = 60.0


@asynccontextmanager
async def a_worker(installation: Installation) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(
        run_answers(installation.settings, installation.topics, installation.store)
    )
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_session_timeout_that_the_brokers_refuse_ends_the_worker_with_what_to_do(
    installation: Installation,
) -> None:
    installation.settings = installation.settings.model_copy(
        update={"session_timeout_seconds": 0.3, "heartbeat_seconds": 0.1}
    )
    async with a_worker(installation) as worker:
        await asyncio.wait([worker], timeout=SECONDS_MAX)
        assert worker.done()
        with pytest.raises(ExceptionGroup) as left:
            worker.result()
    assert left.group_contains(NoMember, match="THALWEG_SESSION_TIMEOUT_SECONDS")


async def test_one_error_at_the_first_join_is_got_over(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    joins, failures = CoordinatorGroupRebalance.perform_group_join, 1

    async def join(self: CoordinatorGroupRebalance) -> object:
        nonlocal failures
        if failures:
            failures -= 1
            raise errors.KafkaError("UnknownError()")
        return await joins(self)

    monkeypatch.setattr(CoordinatorGroupRebalance, "perform_group_join", join)
    async with a_worker(installation):
        _, answer, _ = await installation.ask("tokens=5")
        assert (await installation.ended(answer)).text == numbers(5)
        assert failures == 0


async def test_a_seek_that_never_ends_after_a_rebalance_is_got_over(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    seek, stalled = transport.Consumer.perform_seek, asyncio.Event()

    async def stall(self: transport.Consumer) -> None:
        if not stalled.is_set():
            stalled.set()
            await asyncio.Event().wait()
        await seek(self)

    monkeypatch.setattr(transport.Consumer, "perform_seek", stall)
    monkeypatch.setattr(transport, "RESUME_SECONDS_MAX", 1.0)
    async with a_worker(installation):
        await asyncio.wait_for(stalled.wait(), SECONDS_MAX)
        _, answer, _ = await installation.ask("tokens=5")
        assert (await installation.ended(answer)).text == numbers(5)


async def test_partitions_that_are_never_asked_for_messages_are_got_over(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume, forgot = transport.Consumer.resume_partitions, asyncio.Event()

    def forget(self: transport.Consumer, partitions: Iterable[TP]) -> None:
        if forgot.is_set():
            resume(self, partitions)
        else:
            self.app.loop.call_soon(self._get_active_partitions().clear)
            forgot.set()

    monkeypatch.setattr(transport.Consumer, "resume_partitions", forget)
    monkeypatch.setattr(transport, "STILL_CHECKS_MAX", 2)
    async with a_worker(installation):
        await asyncio.wait_for(forgot.wait(), SECONDS_MAX)
        _, answer, _ = await installation.ask("tokens=5")
        assert (await installation.ended(answer)).text == numbers(5)


async def test_a_member_knows_that_it_is_one_and_when_it_is_not(
    installation: Installation,
) -> None:
    async with running(installation) as (app, _):
        assert app.consumer.is_member
        coordinator = app.consumer._thread._coordinator
        coordinator.reset_generation()  # as when Kafka says that it knows no such member
        assert not app.consumer.is_member
        coordinator.request_rejoin()
        await installation.until(lambda: app.consumer.is_member, "it is a member again")
    assert not app.consumer.is_member


async def test_topics_can_be_held_back_before_the_app_has_started(
    installation: Installation,
) -> None:
    app = AnswersApp(
        installation.settings,
        installation.topics,
        None,  # type: ignore[arg-type]  # nobody is told anything
        Watermarks(),
        loop=asyncio.get_running_loop(),
    )
    app.consumer.hold_back(installation.topics.all_work)
    app.consumer.hold_back([])
