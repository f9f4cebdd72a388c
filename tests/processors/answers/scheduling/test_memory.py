"""What has left the queue takes no room there, however much of it comes by."""

import tracemalloc
from collections.abc import Callable, Iterator

from processors.answers.scheduling.queue import Queue
from tests.processors.answers.scheduling.made import work

ROUNDS = 2_000
GROWN_BYTES_MAX = 200_000
"""Some hundreds of entries; if each round left one, it would be more."""


def grown(turn: Callable[[], None]) -> int:
    """Bytes that so many rounds leave behind, after some."""
    for _ in range(ROUNDS // 10):
        turn()
    tracemalloc.start()
    try:
        for _ in range(ROUNDS):
            turn()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def room(_: object) -> bool:
    return True


def test_work_that_leaves_unserved_leaves_nothing() -> None:
    queue = Queue()
    queue.put(work(deadline=1.0), 0.0)  # its tenant's first, so that the others are behind it

    def turn() -> None:
        left = work()
        queue.put(left, 0.0)
        queue.remove(left.answer)

    assert grown(turn) < GROWN_BYTES_MAX


def test_tenants_that_are_served_leave_no_old_places_in_line() -> None:
    """What they are charged is far above what they use: old places would never be reached."""
    queue = Queue()
    for number in (1, 2):
        queue.put(work(tenant=number, tokens=10**9), 0.0)
    tenants: Iterator[int] = iter(range(10**9))

    def turn() -> None:
        number = 1 + next(tenants) % 2
        queue.put(work(tenant=number, tokens=10**9), 0.0)
        following = queue.next(0.0, room)
        assert following is not None, "a tenant that waits is in line"
        queue.settle(following.charge, 1)

    assert grown(turn) < GROWN_BYTES_MAX
