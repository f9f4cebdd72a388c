"""A relay repeats itself: whatever a saga does with an event, it does once.

The saga of answers is one that repeats don't harm, so this one counts.
"""

from collections.abc import Mapping
from uuid import UUID

import pytest

from events.envelope import Recorded
from infra.sagas.changes import Changes, Instance
from sagas.saga import Answered, Command, Fired, Kept, Reaction
from tests.contracts.event_store.appends import append, message

STREAM = UUID(int=1)
EVENTS = append(*[message(STREAM) for _ in range(5)], stream=STREAM).events


class Count(Kept):
    events: int = 0


class Counts:
    """One instance a stream: how many events it has taken."""

    name = "counts"
    context = "conversations"
    opens = closes = ""
    state = Count
    command = Command

    def instance(self, data: Mapping[str, object]) -> UUID:
        return STREAM

    def react(
        self, state: Count | None, put: Recorded | Fired | Answered[Command]
    ) -> Reaction[Count, Command]:
        return Reaction(Count(events=(state or Count()).events + 1))


@pytest.mark.parametrize(
    "taken", [[1, 1], [1, 2, 1, 2, 3], [1, 2, 3, 2], [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]]
)
@pytest.mark.parametrize("known", [0, 1, 2])
def test_an_event_is_taken_once_also_if_it_was_taken_before_this_batch(
    taken: list[int], known: int
) -> None:
    before = {STREAM: Instance(STREAM, known, Count(events=known))} if known else {}
    changes: Changes[Count, Command] = Changes(Counts(), before)
    for position in taken:
        changes.take(STREAM, EVENTS[position - 1])
    last = max(*taken, known)
    assert changes.known[STREAM].state == Count(events=last)
    assert changes.known[STREAM].position == last
