"""Workers hear each other on a real broker, and lend each other places of an engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.codec import Undecodable
from events.statements import Debt, Loan, Statement, decode_statement, encode_statement
from events.workers import Report
from infra.answers_worker.workers_log import WorkersLog
from infra.workers_reader import KIND, PARTITION, STATEMENT
from processors.answers.calls import Call, work_of
from processors.answers.dispatch import Dispatcher, DispatchLimits
from processors.answers.scheduling.seats import SeatLimits
from tests.contracts.worker.asking import Installation
from tests.processors.answers.fakes import FakeEngine, request
from tests.processors.answers.test_dispatch import PROMPT
from tests.processors.answers.test_sharing import speaking_for

PLACES, PARTITIONS = 8, 16
ASKED = 40
TIMES = 5
SECONDS_MAX = 60.0

NAMES = st.text(max_size=8)
NUMBERS = st.integers(0, 1_000_000)
STATEMENTS = st.builds(
    Statement,
    worker=NAMES,
    wanted=st.dictionaries(NAMES, NUMBERS, max_size=3),
    lent=st.dictionaries(
        NAMES, st.dictionaries(NAMES, st.builds(Loan, NUMBERS, NUMBERS), max_size=3), max_size=3
    ),
    owed=st.dictionaries(
        NAMES,
        st.dictionaries(NAMES, st.builds(Debt, NUMBERS, NUMBERS, st.booleans()), max_size=3),
        max_size=3,
    ),
    number=NUMBERS,
)


@given(STATEMENTS)
def test_a_statement_is_read_as_it_was_made(statement: Statement) -> None:
    assert decode_statement(encode_statement(statement)) == statement


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b'{"worker": "a", "number": 1, "wanted": [], "lent": 1}',
        b'{"worker": "a", "number": Infinity, "wanted": {}, "lent": {}, "owed": {}}',
        encode_statement(Statement("a", lent={"e": {"b": Loan(1, 2)}})).replace(b"[1,2]", b"[1]"),
    ],
)
def test_what_is_no_statement_is_passed_over(value: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_statement(value)


@asynccontextmanager
async def listening(
    installation: Installation,
) -> AsyncIterator[tuple[WorkersLog, list[Statement]]]:
    heard: list[Statement] = []
    log = WorkersLog(installation.settings.kafka_servers, installation.topics.workers)
    await log.start()
    tasks = [
        asyncio.create_task(log.hear(heard.append)),
        asyncio.create_task(log.report(lambda: Report("a worker", 0, 0))),
    ]
    try:
        yield log, heard
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await log.close()


async def hear(
    installation: Installation, log: WorkersLog, name: str, *heard: list[Statement]
) -> None:
    """Says something again and again until all have heard it: a reader begins at the end."""
    said = Statement(name, number=-1)

    def all_have() -> bool:
        if not all(said in each for each in heard):
            log.say(said)
            return False
        return True

    await installation.until(all_have, f"{name} to be heard")


async def test_all_hear_all_in_one_order_and_strangers_disturb_nobody(
    installation: Installation,
) -> None:
    async with listening(installation) as (one, first), listening(installation) as (two, second):
        await hear(installation, one, "one", first, second)
        await hear(installation, two, "two", first, second)
        for number in range(TIMES):
            one.say(Statement("one", {"engine": 1}, number=number))
            two.say(Statement("two", {"engine": 2}, number=number))
            await installation.producer.send(
                installation.topics.workers,
                key=b"a stranger",
                value=b"nothing of ours",
                headers=[(KIND, STATEMENT)],
                partition=PARTITION,
            )
        said: list[list[Statement]] = []

        def all_have() -> bool:
            said[:] = [[each for each in heard if each.number >= 0] for heard in (first, second)]
            return all(len(each) == 2 * TIMES for each in said)

        await installation.until(all_have, "all statements")
        assert said[0] == said[1]
        for name in ("one", "two"):
            assert [each.number for each in said[0] if each.worker == name] == list(range(TIMES))


async def test_a_busy_worker_gets_the_places_of_an_idle_one_and_none_is_used_twice(
    installation: Installation,
) -> None:
    engine = speaking_for(0.2)
    async with lending(installation, engine, 0) as busy, lending(installation, engine, 1) as idle:

        async def ask_until_all_places_are_in_use() -> None:
            while True:
                await ask(busy)
                if engine.open_max >= PLACES:
                    return

        lent = [asyncio.create_task(ask_until_all_places_are_in_use()) for _ in range(ASKED)]
        await installation.until(lambda: engine.open_max == PLACES, "all places in use")
        own = [asyncio.create_task(ask(idle)) for _ in range(ASKED)]
        async with asyncio.timeout(SECONDS_MAX):
            await asyncio.gather(*lent, *own)
    assert engine.open_max == PLACES


@asynccontextmanager
async def lending(
    installation: Installation, engine: FakeEngine, number: int
) -> AsyncIterator[Dispatcher]:
    """One of two workers that have half of the partitions each."""
    log = WorkersLog(installation.settings.kafka_servers, installation.topics.workers)
    await log.start()
    dispatcher = Dispatcher(
        [engine],
        DispatchLimits(seats=SeatLimits(batch_requests=PLACES, ahead_requests=0)),
        worker=f"worker {number}",
        partitions=PARTITIONS,
        say=log.say,
    )
    task = asyncio.create_task(log.hear(dispatcher.heard))
    dispatcher.owns(range(number, PARTITIONS, 2))
    try:
        yield dispatcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await dispatcher.close()
        await log.close()


async def ask(worker: Dispatcher) -> None:
    async for _ in Call(worker, work_of(request(), PROMPT, SECONDS_MAX), PROMPT).tokens():
        pass
