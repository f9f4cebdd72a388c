"""What a worker does when Kafka does not let it into its group, on a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import errors
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance

from events.conversations import Band
from infra.answers_worker import run_answers, transport
from infra.answers_worker.app import AnswersApp
from infra.answers_worker.role import NoMember
from infra.answers_worker.watermarks import Watermarks
from tests.contracts.worker.asking import Installation, numbers
from tests.contracts.worker.test_transport import running

SECONDS_MAX = 60.0
REJOINS = 12
AT_A_TIME = 50  # messages that are sent to Kafka


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


async def test_rebalances_that_follow_closely_pass_no_message_over(
    installation: Installation,
) -> None:
    """As after a commit that Kafka refuses while the member joins: it joins again at once, in the
    same generation."""
    async with running(installation) as (app, notes):
        _, _, recorded = await installation.ask("one of many")
        coordinator = app.consumer._thread._coordinator

        async def join_again_and_again() -> None:
            for times in range(2, REJOINS + 2):
                coordinator.request_rejoin()
                await installation.until(
                    lambda at=times: len(notes.assignments) >= at, "an assignment"
                )

        async def finish_what_comes() -> None:
            """So that commits go on, and the next assignment begins behind them."""
            done = 0
            while True:
                await installation.until(lambda at=done: len(notes.requests) > at, "a request")
                place = notes.requests[done][1].place
                app.watermarks.finish(
                    (installation.topics.work(place.band), place.partition), place.offset
                )
                done += 1

        async with asyncio.TaskGroup() as group:
            finishing = group.create_task(finish_what_comes())
            rejoining = group.create_task(join_again_and_again())
            sent = 1
            while not rejoining.done():
                await asyncio.gather(
                    *(installation.relay(recorded, Band.DEFAULT) for _ in range(AT_A_TIME))
                )
                sent += AT_A_TIME
            await installation.until(
                lambda: len({request.place.offset for _, request in notes.requests}) == sent,
                "every message",
            )
            finishing.cancel()


async def test_a_worker_that_asks_for_no_messages_any_more_is_got_over(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched, hung = transport.LoopConsumer.fetched, asyncio.Event()

    async def hang(self: transport.LoopConsumer) -> object:
        if not hung.is_set():
            hung.set()
            await asyncio.Event().wait()
        return await fetched(self)

    monkeypatch.setattr(transport.LoopConsumer, "fetched", hang)
    monkeypatch.setattr(transport, "STILL_CHECKS_MAX", 2)
    async with a_worker(installation):
        await asyncio.wait_for(hung.wait(), SECONDS_MAX)
        _, answer, _ = await installation.ask("tokens=5")
        assert (await installation.ended(answer)).text == numbers(5)


async def test_what_an_app_has_fetched_in_an_assignment_does_not_count_in_the_next(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message of the former one that came late would stand before what is read again."""
    async with running(installation) as (app, notes):
        _, _, recorded = await installation.ask("first")
        await installation.until(lambda: len(notes.requests) == 1, "the first request")
        hand_over, joined = app.consumer.callback, asyncio.Event()
        late: list[int] = []

        async def hand_over_late(message: Any) -> None:
            late.append(message.offset)
            if len(late) == 1:
                await joined.wait()
            await hand_over(message)

        app.consumer.callback = hand_over_late
        await asyncio.gather(*(installation.relay(recorded, Band.DEFAULT) for _ in range(3)))
        await installation.until(lambda: bool(late), "a hand-over that hangs")
        app.consumer._thread._coordinator.request_rejoin()
        await installation.until(lambda: len(notes.assignments) == 2, "a rebalance")
        taken = len(notes.requests)
        joined.set()
        await installation.until(lambda: len(notes.requests) == taken + 4, "all of them again")
        offsets = [request.place.offset for _, request in notes.requests[taken:]]
        assert offsets == sorted(offsets)


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
