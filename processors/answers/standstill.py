"""An alarm: requests that are held, wait for the log or the event store, and hear nothing.

It mends nothing, and no healthy request sets it off: what it waits for takes seconds at most, or
is tried again. It tells where to look: in which partitions, and in which phase.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from events.ids import AnswerId
from processors.answers.ports import Request
from processors.answers.protocol_words import Held, Phase

log = logging.getLogger("thalweg.answers")

LOOK_SECONDS = 20.0
"""Between two looks. Longer than a claim waits, than any one query, and than a broker restarts."""
NAMED_MAX = 5
"""Answers that one line of the log names."""


class Holding(Protocol):
    """A request that is held."""

    request: Request

    @property
    def state(self) -> Held: ...


class Standstill:
    """Compares the states of two looks: a state is replaced by whatever a request hears."""

    def __init__(self, held: Mapping[AnswerId, Holding]) -> None:
        self._held = held
        self._before: dict[AnswerId, Held] = {}

    def look(self) -> list[Holding]:
        """Those that wait, and have heard nothing since the last look."""
        before = self._before
        self._before = {answer: holding.state for answer, holding in self._held.items()}
        return [
            holding
            for answer, holding in self._held.items()
            if before.get(answer) is holding.state and _waits(holding.state)
        ]

    async def watch(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            still = self.look()
            if still:
                self._tell(still)

    def _tell(self, still: list[Holding]) -> None:
        log.warning(
            "requests stand still",
            extra={
                "count": len(still),
                "held": len(self._held),
                "phases": dict(Counter(each.state.phase.value for each in still)),
                "partitions": sorted({each.request.place.partition for each in still}),
                "answers": [str(each.request.answer) for each in still[:NAMED_MAX]],
            },
        )


def _waits(state: Held) -> bool:
    """Not for an engine, which may take long before it says a word."""
    return state.phase is not Phase.SPEAKING or state.next_index > state.fold.next_index
