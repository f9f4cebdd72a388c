"""Requests whose partition is not folded yet."""

import pytest

from events.answers import EMPTY, Fold
from events.ids import AnswerId
from processors.answers.dispatch import Dispatcher, Ticket
from processors.answers.tails import Asked
from processors.answers.waiting import Waiting
from tests.processors.answers.fakes import FakeEngine, request

TAKEN = 500


class Room:
    """What surrounds the waiting ones; they need no engine."""

    def __init__(self) -> None:
        self.folded_partitions: set[int] = set()
        self.looked_at = 0
        self.started: list[AnswerId] = []
        self.waiting = Waiting(
            Dispatcher([FakeEngine("a")]),
            folded=self.folded,
            needs_no_engine=lambda _: True,
            start=self.start,
        )

    def folded(self, asked: Asked) -> Fold | None:
        self.looked_at += 1
        return EMPTY if asked.request.place.partition in self.folded_partitions else None

    def start(self, asked: Asked, _: Ticket) -> None:
        self.started.append(asked.request.answer)

    def take(self, partition: int, offset: int) -> AnswerId:
        made = request(partition, offset)
        self.waiting.put(Asked(made, [made.place]))
        self.waiting.step()
        return made.answer


@pytest.fixture
async def room() -> Room:
    return Room()


async def test_taking_thousands_before_their_partition_is_folded_costs_each_one_look(
    room: Room,
) -> None:
    taken = [room.take(0, offset) for offset in range(TAKEN)]
    assert room.looked_at <= TAKEN
    room.folded_partitions.add(0)
    room.waiting.step()
    assert room.started == taken, "in their order"


async def test_a_partition_that_is_not_folded_holds_no_other_up(room: Room) -> None:
    room.folded_partitions.add(1)
    held, goes = room.take(0, 0), room.take(1, 0)
    assert room.started == [goes]
    assert room.waiting.drop({0}) == [held]
    assert room.take(1, 1) in room.started
    assert len(room.waiting) == 0


async def test_what_needs_no_engine_any_more_waits_for_its_partition_all_the_same(
    room: Room,
) -> None:
    cancelled = room.take(0, 0)
    room.waiting.start_now(cancelled)
    assert not room.started
    room.folded_partitions.add(0)
    room.waiting.step()
    assert room.started == [cancelled]
