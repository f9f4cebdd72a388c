"""Workers as processes on real Kafka and Postgres, killed and stopped in the middle of answers."""

import asyncio
import os
import signal
import threading
import time
from itertools import pairwise
from uuid import UUID

import pytest

from events.answers import Chunk
from events.conversations import Band, EndKind
from events.ids import AnswerId, fresh_id
from infra.answers_worker import run_answers
from infra.partitions import partition_of
from infra.servers import EmbeddedServers
from infra.servers.kafka import KafkaServer
from tests.contracts.worker.asking import Installation, numbers
from tests.contracts.worker.conftest import PARTITIONS, StartWorker
from tests.fixtures.processes import Process

TAKEOVER_SECONDS_MAX = 20.0
"""2 to 3 s when nothing else runs; without a takeover an answer stands until its deadline."""


async def test_a_request_becomes_a_claim_chunks_and_an_end(
    installation: Installation, start_worker: StartWorker
) -> None:
    start_worker()
    _, answer, _ = await installation.ask("tokens=20 delay_ms=5")
    said = await installation.ended(answer)
    assert said.text == numbers(20)
    assert said.end is not None
    assert (said.end.kind, said.end.reason) == (EndKind.FINISH, "stop")
    assert said.end.usage.completion_tokens == 20
    assert len(installation.log.claims(answer)) == 1
    await installation.acknowledged()


async def test_the_text_ends_before_a_stop_sequence_and_at_the_budget(
    installation: Installation, start_worker: StartWorker
) -> None:
    start_worker()
    _, stopped, _ = await installation.ask("tokens=50 delay_ms=2", stop=("2 13",))
    _, short, _ = await installation.ask("tokens=50 delay_ms=2", tokens_max=7)
    assert (await installation.ended(stopped)).text == numbers(12) + " 1"
    said = await installation.ended(short)
    assert said.end is not None
    assert (said.text, said.end.reason) == (numbers(7), "length")


async def test_a_cancel_ends_an_answer_and_one_that_comes_first_is_not_lost(
    installation: Installation, start_worker: StartWorker
) -> None:
    start_worker()
    stream, answer, _ = await installation.ask("tokens=1000 delay_ms=20")
    await installation.until(lambda: len(installation.log.chunks(answer)) > 3, "some text")
    await installation.cancel(stream, answer)
    said = await installation.ended(answer)
    assert said.end is not None
    assert said.end.kind is EndKind.CANCELLED
    assert said.text == numbers(said.tokens)
    await installation.acknowledged()


async def test_a_repeated_request_is_answered_once(
    installation: Installation, start_worker: StartWorker
) -> None:
    start_worker()
    _, answer, request = await installation.ask("tokens=20 delay_ms=10")
    await installation.relay(request, Band.DEFAULT)
    await installation.ended(answer)
    await installation.relay(request, Band.DEFAULT)
    await installation.acknowledged()
    assert len(installation.log.claims(answer)) == 1


async def test_an_answer_whose_end_is_recorded_is_acknowledged_without_a_word(
    installation: Installation, start_worker: StartWorker
) -> None:
    stream, answer, _ = await installation.ask("tokens=20")
    await installation.end(stream, answer)
    start_worker()
    await installation.acknowledged()
    assert installation.log.claims(answer) == []


async def test_a_passed_deadline_ends_the_answer(
    installation: Installation, start_worker: StartWorker
) -> None:
    start_worker()
    _, answer, _ = await installation.ask("tokens=1000 delay_ms=20", seconds=3)
    said = await installation.ended(answer)
    assert said.end is not None
    assert (said.end.kind, said.end.reason) == (EndKind.FAIL, "deadline")


async def answering(installation: Installation, count: int = 8) -> list[AnswerId]:
    """Answers of different conversations, all of them in the middle; of each partition as many."""
    streams = [a_stream(number % PARTITIONS) for number in range(count)]
    answers = [
        (await installation.ask("tokens=200 delay_ms=30", conversation=each))[1] for each in streams
    ]
    await installation.until(
        lambda: all(len(installation.log.chunks(each)) > 5 for each in answers), "some text"
    )
    return answers


def a_stream(partition: int) -> UUID:
    """Of a conversation whose work and words are there."""
    while partition_of(stream := fresh_id(), PARTITIONS) != partition:
        pass
    return stream


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


async def test_after_a_kill_the_other_worker_goes_on_from_the_next_token(
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


async def test_a_worker_that_is_told_to_stop_hands_over_at_once(
    installation: Installation, start_worker: StartWorker
) -> None:
    workers = [start_worker(), start_worker()]
    await both_work(installation, workers)
    answers = await answering(installation)
    told = time.monotonic()
    workers[0].signal(signal.SIGTERM)
    await asyncio.to_thread(workers[0].wait, seconds_max=30)
    print(f"stopped after {time.monotonic() - told:.2f} s")  # noqa: T201
    await check_whole(installation, answers)
    silence = longest_silence(installation, answers, told)
    print(f"longest silence after SIGTERM: {silence:.2f} s")  # noqa: T201
    assert silence < TAKEOVER_SECONDS_MAX
    await installation.acknowledged()


async def test_a_worker_that_slept_through_its_session_changes_nothing(
    installation: Installation, start_worker: StartWorker
) -> None:
    workers = [start_worker(), start_worker()]
    await both_work(installation, workers)
    answers = await answering(installation)
    speakers = {installation.log.claims(each)[-1].worker for each in answers}
    assert len(speakers) == 2
    workers[0].signal(signal.SIGSTOP)
    claims = {each: len(installation.log.claims(each)) for each in answers}
    await installation.until(
        lambda: any(len(installation.log.claims(each)) > claims[each] for each in answers),
        "the other worker takes over",
    )
    workers[0].signal(signal.SIGCONT)
    await check_whole(installation, answers)
    await installation.acknowledged()


async def test_a_broker_that_is_gone_for_a_while_loses_nothing(
    installation: Installation, start_worker: StartWorker, kafka_server: KafkaServer
) -> None:
    start_worker()
    answers = await answering(installation, 2)
    assert kafka_server.pid is not None
    os.kill(kafka_server.pid, signal.SIGSTOP)
    await asyncio.sleep(4)  # how long the outage lasts
    os.kill(kafka_server.pid, signal.SIGCONT)
    await check_whole(installation, answers)
    await installation.acknowledged()


async def test_a_broker_that_is_killed_and_started_again_loses_nothing(
    installation: Installation, start_worker: StartWorker, unstarted_servers: EmbeddedServers
) -> None:
    start_worker()
    answers = await answering(installation, 2)
    await asyncio.to_thread(unstarted_servers.kafka.kill)
    await asyncio.to_thread(unstarted_servers.start, "kafka")
    await check_whole(installation, answers)
    await installation.acknowledged()


async def test_a_worker_in_a_loop_of_the_callers_ends_without_leaving_anything(
    installation: Installation,
) -> None:
    _, answer, _ = await installation.ask("tokens=3")
    before = set(threading.enumerate())  # the test's own clients have theirs

    def left() -> list[str]:
        names = [each.name for each in set(threading.enumerate()) - before]
        return [name for name in names if name.startswith("kafka-")]

    running = asyncio.create_task(
        run_answers(installation.settings, installation.topics, installation.store)
    )
    await installation.ended(answer)
    assert left()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await installation.until(lambda: not left(), "the end of its threads")
