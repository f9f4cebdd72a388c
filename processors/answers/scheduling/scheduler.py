"""Joins the queue and the engines: what is dispatched next, and to whom.

Pure: time, load and chance come in, and what is to be done is returned. Whoever uses it makes the
calls.
"""

import random
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from math import inf

from events.ids import ConversationId
from processors.answers.scheduling.choice import Choice, choose
from processors.answers.scheduling.lately import Lately
from processors.answers.scheduling.queue import Charge, Queue
from processors.answers.scheduling.retries import RetryBudget, RetryLimits
from processors.answers.scheduling.seats import Seat
from processors.answers.scheduling.work import Needs, Queued, QueueLimits, Why

PREFIXES_KEPT_MAX = 10_000
"""Conversations of which it is known who spoke last; the least recent is forgotten."""


class Outcome(Enum):
    """How a call went, as far as it says something of the engine."""

    FINISHED = "finished"
    FAILED = "failed"
    """It broke, hung, or ended without a finish reason."""
    AWAY = "away"
    """It could not be reached."""
    FULL = "full"
    LET_GO = "let_go"
    """We closed it, or the engine refused what was asked: that is no fault of its own."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One call that is to be made."""

    work: Queued
    seat: Seat
    choice: Choice
    charge: Charge
    waited_seconds: float
    began_at: float


class Scheduler:
    """Of one worker."""

    def __init__(
        self,
        chance: random.Random,
        *,
        limits: QueueLimits | None = None,
        retries: RetryLimits | None = None,
    ) -> None:
        self.queue = Queue(limits)
        self.retries = RetryBudget(retries)
        self.seats: dict[str, Seat] = {}
        """By the engine's name. Whoever adds or removes one may do so at any time."""
        self.lately = Lately()
        """What the engines served that have gone. Whoever removes one says so."""
        self._chance = chance
        self._prefixes: OrderedDict[ConversationId, str] = OrderedDict()

    def next(self, now: float) -> Dispatch | None:
        """What is to be called now; ask again until there is nothing. Each is to be `ended`."""
        rooms: dict[Needs, list[Seat]] = {}

        def has_room(needs: Needs) -> bool:
            if needs not in rooms:
                rooms[needs] = [seat for seat in self._able(needs) if seat.room(now) > 0]
            return bool(rooms[needs])

        following = self.queue.next(now, has_room)
        if following is None:
            return None
        work = following.work
        choice = choose(
            rooms[work.needs],
            now,
            self._chance,
            prefer=self._prefixes.get(work.conversation),
            avoid=work.avoid,
        )
        if choice is None:  # pragma: no cover  # has_room has just said that there is one
            raise RuntimeError("an engine with room has none")
        choice.seat.began()
        return Dispatch(work, choice.seat, choice, following.charge, following.waited_seconds, now)

    def given_up(self, now: float) -> Iterator[tuple[Queued, Why]]:
        """Takes out of the queue what has waited too long."""
        return self.queue.given_up(now, self.served_since, self.out_since)

    def ended(self, dispatch: Dispatch, outcome: Outcome, used: int, now: float) -> None:
        """A call is over, and has used so many tokens: of the prompt, and of what was said."""
        seat = dispatch.seat
        seat.ended()
        self.queue.settle(dispatch.charge, used)
        match outcome:
            case Outcome.FINISHED:
                seat.breaker.succeeded(now)
                self._spoke(dispatch.work.conversation, seat.name)
            case Outcome.FAILED | Outcome.AWAY:
                away = outcome is Outcome.AWAY
                seat.breaker.failed(dispatch.began_at, now, away=away)
            case Outcome.FULL:
                seat.breaker.full(now)
            case Outcome.LET_GO:
                seat.breaker.let_go(dispatch.began_at)

    def served_since(self, needs: Needs) -> float | None:
        """Since when an engine that can do it takes work, even if it is full; None: none does."""
        since = (seat.breaker.lets_since for seat in self._able(needs))
        return min((each for each in since if each is not None), default=None)

    def out_since(self, needs: Needs) -> float:
        """While none takes work: since when. Minus infinity: none has since this worker began."""
        since = (seat.breaker.out_since for seat in self._able(needs))
        return max(self.lately.last(needs), max(since, default=-inf))

    def may_be_served(self, needs: Needs) -> bool:
        """An engine that is known can do it, or one that may be able to has not said so yet."""
        model, unable = needs
        return any(
            seat.name not in unable and (seat.models is None or model in seat.models)
            for seat in self.seats.values()
        )

    def wanted(self) -> dict[str, int]:
        """By engine: how much waits that it could do."""
        found = dict.fromkeys(self.seats, 0)
        for needs, number in self.queue.waiting().items():
            for seat in self._able(needs):
                found[seat.name] += number
        return found

    def _able(self, needs: Needs) -> Iterator[Seat]:
        model, unable = needs
        for seat in self.seats.values():
            if model in (seat.models or ()) and seat.name not in unable:
                yield seat

    def _spoke(self, conversation: ConversationId, engine: str) -> None:
        self._prefixes[conversation] = engine
        self._prefixes.move_to_end(conversation)
        while len(self._prefixes) > PREFIXES_KEPT_MAX:
            self._prefixes.popitem(last=False)
