"""Requests that a worker has taken and not started: each waits for its partition's fold, and then
in the dispatcher's queue for an engine.

What needs no engine is not kept waiting for one: an answer that has ended, or is to be cancelled.
"""

import time
from collections.abc import Callable, Collection
from functools import partial

from events.answers import Fold
from events.ids import AnswerId
from processors.answers.dispatch import Dispatcher, GivenUp, Ticket, Turn
from processors.answers.scheduling.work import Queued, Why
from processors.answers.tails import Asked

Folded = Callable[[Asked], Fold | None]
"""What was said of it; None: its partition is not folded yet."""


class Waiting:
    """Of one worker. `start` is called with each once, unless it is dropped before."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        folded: Folded,
        needs_no_engine: Callable[[AnswerId], bool],
        start: Callable[[Asked, Ticket], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._folded = folded
        self._needs_no_engine = needs_no_engine
        self._start = start
        self._asked: dict[AnswerId, Asked] = {}
        self._unfolded: dict[AnswerId, None] = {}
        """Of these, those that are not in the queue yet, in their order."""

    def __len__(self) -> int:
        return len(self._asked)

    def get(self, answer: AnswerId) -> Asked | None:
        return self._asked.get(answer)

    def put(self, asked: Asked) -> None:
        self._asked[asked.request.answer] = asked
        self._unfolded[asked.request.answer] = None

    def drop(self, partitions: Collection[int]) -> list[AnswerId]:
        """Forgets what waits there, and says what that was."""
        dropped = [
            answer
            for answer, asked in self._asked.items()
            if asked.request.place.partition in partitions
        ]
        for answer in dropped:
            self._leave(answer)
        return dropped

    def start_now(self, answer: AnswerId) -> None:
        """It needs no engine any more. Does nothing if it does not wait, or not for an engine."""
        if answer in self._asked and answer not in self._unfolded:
            self._start(self._leave(answer), Ticket(self._dispatcher))

    def step(self) -> None:
        """Partitions may have been folded."""
        for answer in list(self._unfolded):
            asked = self._asked[answer]
            said = self._folded(asked)
            if said is not None:
                del self._unfolded[answer]
                self._enter(asked, said)

    def _enter(self, asked: Asked, said: Fold) -> None:
        request = asked.request
        if said.end is not None or self._needs_no_engine(request.answer):
            self._start(self._leave(request.answer), Ticket(self._dispatcher))
            return
        now = time.monotonic()
        work = Queued(
            request.answer,
            request.conversation,
            request.tenant,
            request.place.band,
            request.model,
            tokens=request.tokens_max,
            asked_at=now,
            deadline=now + request.seconds_left,
            begun=said.next_index > 0,
            said_tokens=said.tokens,
        )
        self._dispatcher.enter(work, partial(self._turn_came, request.answer))

    def _turn_came(self, answer: AnswerId, turn: Turn) -> None:
        ticket = Ticket(self._dispatcher, turn)
        if isinstance(turn, GivenUp) and turn.why is Why.DEADLINE:
            ticket.take()  # by two machines' clocks: the event store has the last word
        self._start(self._leave(answer), ticket)

    def _leave(self, answer: AnswerId) -> Asked:
        self._unfolded.pop(answer, None)
        self._dispatcher.leave(answer)
        return self._asked.pop(answer)
