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
        self._unfolded: dict[int, dict[AnswerId, None]] = {}
        """Of these, those that are not in the queue yet, by partition, in their order."""

    def __len__(self) -> int:
        return len(self._asked)

    def get(self, answer: AnswerId) -> Asked | None:
        return self._asked.get(answer)

    def put(self, asked: Asked) -> None:
        self._asked[asked.request.answer] = asked
        self._unfolded.setdefault(asked.request.place.partition, {})[asked.request.answer] = None

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
        asked = self._asked.get(answer)
        if asked is not None and answer not in self._unfolded_of(asked):
            self._start(self._leave(answer), Ticket(self._dispatcher))

    def step(self) -> None:
        """Partitions may have been folded. Of one that has not been, only the first is looked at:
        thousands may wait while it is."""
        for answers in list(self._unfolded.values()):
            while answers:
                answer = next(iter(answers))
                asked = self._asked[answer]
                said = self._folded(asked)
                if said is None:
                    break
                del answers[answer]
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
        asked = self._asked.pop(answer)
        self._unfolded_of(asked).pop(answer, None)
        self._dispatcher.leave(answer)
        return asked

    def _unfolded_of(self, asked: Asked) -> dict[AnswerId, None]:
        return self._unfolded.get(asked.request.place.partition, {})
