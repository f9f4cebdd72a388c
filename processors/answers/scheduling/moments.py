"""When something is to be done about work that waits."""

import heapq
from collections.abc import Callable, Iterator
from itertools import count
from math import inf

from processors.answers.scheduling.work import Queued


class Moments:
    """A heap of moments; those of work that has left meanwhile come to nothing."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Queued]] = []
        self._numbers = count()

    @property
    def first(self) -> float:
        return self._heap[0][0] if self._heap else inf

    def add(self, work: Queued, at: float) -> None:
        if at < inf:
            heapq.heappush(self._heap, (at, next(self._numbers), work))

    def due(self, now: float, waits: Callable[[Queued], bool]) -> Iterator[Queued]:
        """Takes them out, the earliest first; `waits`: the work has not left."""
        while self._heap and self._heap[0][0] <= now:
            _, _, work = heapq.heappop(self._heap)
            if waits(work):
                yield work

    def tidy(self, moments_max: int, waits: Callable[[Queued], bool]) -> None:
        if len(self._heap) > moments_max:
            self._heap = [each for each in self._heap if waits(each[2])]
            heapq.heapify(self._heap)
