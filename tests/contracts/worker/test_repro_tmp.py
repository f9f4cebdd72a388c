"""Workers as processes on real Kafka and Postgres, killed and stopped in the middle of answers."""

import asyncio
import os
import signal
import time
from itertools import pairwise

from events.answers import Chunk
from events.conversations import Band, EndKind
from events.ids import AnswerId
from infra.servers.kafka import KafkaServer
from tests.contracts.worker.asking import Installation, numbers
from tests.contracts.worker.conftest import StartWorker
from tests.fixtures.processes import Process

TAKEOVER_SECONDS_MAX = 8.0  # 2 to 3 s when nothing else runs


async def answering(installation: Installation, count: int = 8) -> list[AnswerId]:
    """Answers of different conversations, all of them in the middle."""
    answers = [(await installation.ask("tokens=200 delay_ms=30"))[1] for _ in range(count)]
    await installation.until(
        lambda: all(len(installation.log.chunks(each)) > 5 for each in answers), "some text"
    )
    return answers


async def check_whole(installation: Installation, answers: list[AnswerId]) -> None:
    for answer in answers:
        said = await installation.ended(answer)
        assert said.text == numbers(200)
        assert said.end is not None
        assert said.end.usage.completion_tokens == 200


def longest_silence(installation: Installation, answers: list[AnswerId], after: float) -> float:
    """The longest time between two chunks that counted of any one of the answers."""
    longest = 0.0
    for answer in answers:
        times = [
            at
            for at, record in installation.log.records
            if isinstance(record, Chunk) and record.answer == answer
        ]
        waits = [(late - early) for early, late in pairwise(times) if late > after]
        longest = max(longest, *waits)
    return longest


async def both_work(installation: Installation, workers: list[Process]) -> None:
    """Waits until the partitions are shared: answers come from both."""
    while True:
        answers = [(await installation.ask("tokens=1"))[1] for _ in range(16)]
        for answer in answers:
            await installation.ended(answer)
        if len({installation.log.claims(each)[0].worker for each in answers}) == len(workers):
            return


async def no_test_after_a_kill_the_other_worker_goes_on_from_the_next_token(
    installation: Installation, start_worker: StartWorker
) -> None:
    workers = [start_worker(), start_worker()]
    await both_work(installation, workers)
    answers = await answering(installation)
    killed = time.monotonic()
    workers[0].signal(signal.SIGKILL)
    await check_whole(installation, answers)
    speakers = [installation.log.claims(each) for each in answers]
    assert any(len(claims) > 1 for claims in speakers), "the killed one had some"
    assert any(len(claims) == 1 for claims in speakers), "the other one was not disturbed"
    silence = longest_silence(installation, answers, killed)
    print(f"longest silence after kill -9: {silence:.2f} s")  # noqa: T201
    assert silence < TAKEOVER_SECONDS_MAX
    await installation.acknowledged()


async def no_test_a_worker_that_is_told_to_stop_hands_over_at_once(
    installation: Installation, start_worker: StartWorker
) -> None:
    workers = [start_worker(), start_worker()]
    await both_work(installation, workers)
    answers = await answering(installation)
    told = time.monotonic()
    workers[0].signal(signal.SIGTERM)
    await asyncio.to_thread(workers[0].wait, seconds_max=10)
    print(f"stopped after {time.monotonic() - told:.2f} s")  # noqa: T201
    await check_whole(installation, answers)
    silence = longest_silence(installation, answers, told)
    print(f"longest silence after SIGTERM: {silence:.2f} s")  # noqa: T201
    assert silence < TAKEOVER_SECONDS_MAX
    await installation.acknowledged()


import pytest


@pytest.mark.parametrize("n", range(8))
async def test_a_worker_that_slept_through_its_session_changes_nothing(
    n, installation: Installation, start_worker: StartWorker
) -> None:
    workers = [start_worker(), start_worker()]
    await both_work(installation, workers)
    answers = await answering(installation)
    workers[0].signal(signal.SIGSTOP)
    claims = {each: len(installation.log.claims(each)) for each in answers}
    print([installation.log.claims(each)[0].worker for each in answers])
    await installation.until(
        lambda: any(len(installation.log.claims(each)) > claims[each] for each in answers),
        "the other worker takes over",
        seconds_max=12,
    )
    workers[0].signal(signal.SIGCONT)
    await check_whole(installation, answers)
    await installation.acknowledged()


async def no_test_a_broker_that_is_gone_for_a_while_loses_nothing(
    installation: Installation, start_worker: StartWorker, kafka_server: KafkaServer
) -> None:
    start_worker()
    answers = await answering(installation, 2)
    assert kafka_server.pid is not None
    os.kill(kafka_server.pid, signal.SIGSTOP)
    await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=4)
    os.kill(kafka_server.pid, signal.SIGCONT)
    await check_whole(installation, answers)
    await installation.acknowledged()
