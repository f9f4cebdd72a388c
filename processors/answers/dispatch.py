"""The scheduler on an event loop: one queue, all engines, and the clock.

What was accepted is answered: work waits for an engine as long as its band is patient and, if a
part of the answer was shown already, until its deadline.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from events.ids import AnswerId
from events.statements import Statement
from events.workers import Report
from processors.answers.decisions import Decisions, Say
from processors.answers.engine import Engine, Overloaded
from processors.answers.fleet import Fleet
from processors.answers.meter import NOTHING, UNMEASURED, Meter, Spoken
from processors.answers.reports import Served, report_of
from processors.answers.scheduling.breaker import BreakerLimits
from processors.answers.scheduling.retries import RetryLimits
from processors.answers.scheduling.scheduler import Dispatch, Outcome, Scheduler
from processors.answers.scheduling.seats import SeatLimits
from processors.answers.scheduling.work import Queued, QueueLimits, Why
from processors.answers.sharing import Sharing

TICK_SECONDS = 0.05  # while work waits: pauses of breakers end, engines start slowly


@dataclass(frozen=True, slots=True)
class DispatchLimits:
    queue: QueueLimits = field(default_factory=QueueLimits)
    seats: SeatLimits = field(default_factory=SeatLimits)
    breaker: BreakerLimits = field(default_factory=BreakerLimits)
    retries: RetryLimits = field(default_factory=RetryLimits)


class GivenUp(Exception):
    """The queue has no engine for this work within its bounds."""

    def __init__(self, why: Why) -> None:
        super().__init__(why.value)
        self.why = why


Turn = Dispatch | Exception
"""What the queue says of work: the engine that does it, or why none does."""


class Ticket:
    """A turn that came and is used once, or given back."""

    def __init__(self, dispatcher: "Dispatcher", turn: Turn | None = None) -> None:
        self._dispatcher = dispatcher
        self._turn = turn

    def take(self) -> Turn | None:
        """None: there is none, or it was used."""
        turn, self._turn = self._turn, None
        return turn

    def give_back(self) -> None:
        """The engine that was meant may serve others."""
        turn = self.take()
        if isinstance(turn, Dispatch):
            self._dispatcher.ended(turn, Outcome.LET_GO, 0)


class Dispatcher:
    """One per worker process."""

    def __init__(
        self,
        engines: Sequence[Engine],
        limits: DispatchLimits | None = None,
        *,
        worker: str = "alone",
        partitions: int = 1,
        whole: bool = True,
        say: Callable[[Statement], None] | None = None,
        decide: Say | None = None,
        meter: Meter = UNMEASURED,
        chance: random.Random | None = None,
    ) -> None:
        """`worker` shares the engines with others, by its part of `partitions`, and `say`s to them
        what it lends and wants; without `say` it has all places of its own. Not `whole`: there are
        engines that are not known yet. `decide` is told of each decision, and `meter` counts."""
        limits = limits or DispatchLimits()
        self._scheduler = Scheduler(
            chance or random.Random(),  # noqa: S311  # who speaks is no secret
            limits=limits.queue,
            retries=limits.retries,
        )
        self._decisions, self.meter = Decisions(decide, meter), meter
        self._fleet = Fleet(
            engines,
            self._scheduler,
            self._decisions,
            seats=limits.seats,
            breaker=limits.breaker,
            whole=whole,
            shared=say is not None,
            changed=self._go_soon,
            models_changed=self._models_changed,
        )
        self._worker, self._partitions = worker, 0
        self._served = Served()
        self._waiting: dict[AnswerId, Callable[[Turn], None]] = {}
        self._tick: asyncio.TimerHandle | None = None
        self._closed = self._going = False
        self._sharing: Sharing | None = None
        if say is not None:
            self._sharing = Sharing(
                worker, self._scheduler, partitions=partitions, say=say, grown=self._go_soon
            )

    def owns(self, partitions: Collection[int]) -> None:
        """The partitions that are this worker's now: with them go the engines' places."""
        self._partitions = len(partitions)
        if self._sharing is not None:
            self._sharing.owns(partitions)

    def heard(self, statement: Statement) -> None:
        """A worker's statement was read, another's or its own."""
        if self._sharing is not None:
            self._sharing.heard(statement)

    def engine(self, name: str) -> Engine:
        """One that has gone as well, until its last call is over."""
        return self._fleet.engine(name)

    def set_engines(self, engines: Sequence[Engine], *, whole: bool = True) -> None:
        """These are the engines from now on: see `Fleet`."""
        self._fleet.set_engines(engines, whole=whole)
        if self._sharing is not None:
            self._sharing.seats_changed()
        self._fleet.look()
        self._go_soon()

    def enter(self, work: Queued, came: Callable[[Turn], None]) -> None:
        """Puts work into the queue; `came` is told once, unless it `leaves` before. Whoever gets a
        dispatch says how it `ended`."""
        refusal = self._fleet.refusal(work)
        self._fleet.look()
        if refusal is None and not self._scheduler.queue.put(work, time.monotonic()):
            refusal = Overloaded("the worker's queue is full")
        if refusal is not None:
            self._decisions.given_up(work.answer, refusal)
            came(refusal)
            return
        self._decisions.queued(work, len(self._waiting))
        self._waiting[work.answer] = came
        self._go_soon()

    def leave(self, answer: AnswerId) -> None:
        """It waits no more."""
        if self._waiting.pop(answer, None) is not None:
            self._scheduler.queue.remove(answer)

    async def acquire(self, work: Queued) -> Dispatch:
        """Waits for the work's turn. Raises what an engine could, or GivenUp."""
        turn: asyncio.Future[Dispatch] = asyncio.get_running_loop().create_future()

        def came(this: Turn) -> None:
            if turn.done():  # whoever waited was cancelled in this turn of the loop
                Ticket(self, this).give_back()
            elif isinstance(this, Dispatch):
                turn.set_result(this)
            else:
                turn.set_exception(this)

        self.enter(work, came)
        try:
            return await turn
        except asyncio.CancelledError:
            self.leave(work.answer)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.ended(turn.result(), Outcome.LET_GO, 0)
            raise

    def may_retry(self) -> bool:
        granted = self._scheduler.retries.take(time.monotonic())
        self.meter.retried(granted=granted)
        return granted

    def ended(
        self,
        dispatch: Dispatch,
        outcome: Outcome,
        used: int,
        error: str = "",
        spoken: Spoken = NOTHING,
    ) -> None:
        """`used`: tokens, of the prompt and of what was said. `error`: the kind of a failure."""
        now, before = time.monotonic(), dispatch.seat.breaker.state
        self._scheduler.ended(dispatch, outcome, used, now)
        self._decisions.ended(dispatch, outcome, used, error, spoken)
        self._decisions.breaker(dispatch.seat, before)
        self._served.over(dispatch.work.model)
        if outcome is Outcome.FINISHED:
            self._served.finished(dispatch.work.model, used, now - dispatch.began_at, now)
        self._fleet.call_ended(dispatch.seat.name)
        self._go_soon()

    def report(self, held: int) -> Report:
        """How this worker is, which holds so many requests. Engines are asked what they serve then
        if it is not known: also before the first request comes."""
        self._fleet.look()
        return report_of(
            self._worker, self._partitions, held, self._scheduler, self._served, time.monotonic()
        )

    async def close(self) -> None:
        """Closes the engines' connections."""
        self._closed = True
        if self._tick is not None:
            self._tick.cancel()
        if self._sharing is not None:
            self._sharing.close()
        await self._fleet.close()

    # ---------------------------------------------------------------------------------------------

    def _go_soon(self) -> None:
        """What comes in one turn of the loop is looked at together."""
        if not self._going and not self._closed:
            self._going = True
            asyncio.get_running_loop().call_soon(self._go)

    def _go(self) -> None:
        """Gives up what has waited too long, and dispatches what there is room for."""
        self._going = False
        if self._closed:
            return
        now, scheduler = time.monotonic(), self._scheduler
        if len(scheduler.queue) and self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(TICK_SECONDS, self._ticked)
        for work, why in scheduler.given_up(now):
            self._decisions.given_up(work.answer, why)
            self._waiting.pop(work.answer)(GivenUp(why))
        while (dispatch := scheduler.next(now)) is not None:
            if dispatch.work.attempt == 1:
                scheduler.retries.called(now)
            self._served.began(dispatch.work.model)
            self._decisions.dispatched(dispatch)
            self._waiting.pop(dispatch.work.answer)(dispatch)
        self._fleet.figures.look()
        if self._sharing is not None:
            self._sharing.look_soon()

    def _ticked(self) -> None:
        self._tick = None
        self._fleet.look()
        self._go()

    def _models_changed(self) -> None:
        for answer in list(self._waiting):
            work = self._scheduler.queue.find(answer)
            refusal = None if work is None else self._fleet.refusal(work)
            if refusal is not None:
                self._scheduler.queue.remove(answer)
                self._decisions.given_up(answer, refusal)
                self._waiting.pop(answer)(refusal)
