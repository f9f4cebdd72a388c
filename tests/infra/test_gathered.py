"""Many questions share a query, and each gets its own answer."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from commands.errors import StoreUnavailable
from infra.event_store import gathered
from infra.event_store.gathered import Gathered

SECONDS_MAX = 10.0


class Asked:
    """Answers a number with its double, 13 with an error, and all that come with 99 with one.

    The answers come in another order than the questions, as a database's rows may.
    """

    def __init__(self) -> None:
        self.queries: list[list[int]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, keys: Sequence[int]) -> Mapping[int, int | Exception]:
        self.queries.append(list(keys))
        await self.may_answer.wait()
        if 99 in keys:
            raise StoreUnavailable("away")
        return {key: ValueError("13") if key == 13 else 2 * key for key in reversed(keys)}


def made(asked: Asked, *, seconds_max: float = SECONDS_MAX) -> Gathered[int, int]:
    return Gathered(asked, seconds_max=seconds_max)


async def test_what_is_asked_together_is_one_query() -> None:
    asked = Asked()
    numbers = made(asked)
    assert await asyncio.gather(*(numbers.get(n) for n in (3, 1, 2, 1))) == [6, 2, 4, 2]
    assert asked.queries == [[3, 1, 2]]


async def test_what_is_asked_meanwhile_goes_into_the_next_query() -> None:
    asked = Asked()
    asked.may_answer.clear()
    numbers = made(asked)
    answers = []
    for n in range(6):
        answers.append(asyncio.create_task(numbers.get(n)))
        for _ in range(5):  # turns of the loop: each would begin a query of its own
            await asyncio.sleep(0)
    assert asked.queries == [[n] for n in range(gathered.QUERIES_MAX)]
    asked.may_answer.set()
    assert await asyncio.gather(*answers) == [0, 2, 4, 6, 8, 10]
    assert asked.queries[gathered.QUERIES_MAX :] == [[2, 3, 4, 5]]


async def test_a_key_that_was_asked_before_is_asked_again() -> None:
    asked = Asked()
    numbers = made(asked)
    assert [await numbers.get(1), await numbers.get(1)] == [2, 2]
    assert asked.queries == [[1], [1]]


async def test_an_error_of_one_key_is_its_alone_and_one_of_the_query_is_everybodys() -> None:
    numbers = made(Asked())
    one, bad = await asyncio.gather(numbers.get(1), numbers.get(13), return_exceptions=True)
    assert one == 2
    assert isinstance(bad, ValueError)
    failed = await asyncio.gather(numbers.get(1), numbers.get(99), return_exceptions=True)
    assert [type(one) for one in failed] == [StoreUnavailable, StoreUnavailable]


async def test_more_keys_than_a_query_takes_are_several() -> None:
    asked = Asked()
    numbers = made(asked)
    count = 2 * gathered.KEYS_PER_QUERY_MAX + 1
    assert await asyncio.gather(*(numbers.get(n) for n in range(100, 100 + count)))
    assert max(len(keys) for keys in asked.queries) == gathered.KEYS_PER_QUERY_MAX


async def test_who_waits_too_long_is_told_and_who_left_is_not_asked_for() -> None:
    asked = Asked()
    asked.may_answer.clear()
    numbers = made(asked, seconds_max=0.01)
    for n in range(gathered.QUERIES_MAX + 1):
        with pytest.raises(StoreUnavailable):
            await numbers.get(n)
    asked.may_answer.set()
    numbers._seconds_max = SECONDS_MAX  # from here on nobody is to wait too long
    assert await numbers.get(7) == 14
    assert asked.queries == [*([n] for n in range(gathered.QUERIES_MAX)), [7]]
