"""The scheduler on an event loop: one queue, all engines, and the clock.

What was accepted is answered: work waits for an engine as long as its band is patient and, if a
part of the answer was shown already, until its deadline.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from events.ids import AnswerId
from events.workers import Report
from processors.answers.decisions import Decisions, Say
from processors.answers.engine import (
    CannotContinue,
    Engine,
    EngineFailed,
    EngineRefused,
    Overloaded,
)
from processors.answers.figures import FiguresPoll
from processors.answers.meter import NOTHING, UNMEASURED, Meter, Spoken
from processors.answers.places import Places
from processors.answers.reports import Served, report_of
from processors.answers.scheduling.breaker import BreakerLimits
from processors.answers.scheduling.lending import Statement
from processors.answers.scheduling.retries import RetryLimits
from processors.answers.scheduling.scheduler import Dispatch, Outcome, Scheduler
from processors.answers.scheduling.seats import Seat, SeatLimits
from processors.answers.scheduling.work import Queued, QueueLimits, Why

log = logging.getLogger("thalweg.answers")

MODELS_SECONDS_MAX = 30.0  # how long what an engine said of its models is believed
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
    """One per worker process. Knows the engines that the settings name."""

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
        self._engines = {engine.name: engine for engine in engines}
        self._scheduler = Scheduler(
            chance or random.Random(),  # noqa: S311  # who speaks is no secret
            limits=limits.queue,
            retries=limits.retries,
        )
        self._limits = limits
        self._decisions, self.meter = Decisions(decide, meter), meter
        for name in self._engines:
            self._scheduler.seats[name] = Seat(name, limits=limits.seats, breaker=limits.breaker)
        self._leaving: dict[str, Seat] = {}
        """Engines that have gone and are still at work for us."""
        self._whole = whole
        self._figures = FiguresPoll(self._scheduler.seats, self.engine, self._go_soon)
        self._worker, self._partitions = worker, 0
        self._served = Served()
        self._models_at = dict.fromkeys(self._engines, float("-inf"))
        """When each engine was asked what it serves, of what is known."""
        self._models_wanted_at = float("-inf")
        """Work came then that no engine serves, by what was known."""
        self._asking: set[str] = set()
        """Engines that are asked for their models or their health now."""
        self._waiting: dict[AnswerId, Callable[[Turn], None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tick: asyncio.TimerHandle | None = None
        self._closed = self._going = False
        self._places: Places | None = None
        if say is not None:
            self._places = Places(
                worker, self._scheduler, partitions=partitions, say=say, grown=self._go_soon
            )

    def owns(self, partitions: Collection[int]) -> None:
        """The partitions that are this worker's now: with them go the engines' places."""
        self._partitions = len(partitions)
        if self._places is not None:
            self._places.owns(partitions)

    def heard(self, statement: Statement) -> None:
        """A worker's statement was read, another's or its own."""
        if self._places is not None:
            self._places.heard(statement)

    def engine(self, name: str) -> Engine:
        """One that has gone as well, until its last call is over."""
        return self._engines[name]

    def set_engines(self, engines: Sequence[Engine], *, whole: bool = True) -> None:
        """These are the engines from now on. One that is known stays as it is, and what was opened
        for it now is closed. One that is new starts slowly. One that has gone gets nothing more,
        finishes what it has, and is closed."""
        wanted = {engine.name for engine in engines}
        now, self._whole = time.monotonic(), whole
        for name in [name for name in self._scheduler.seats if name not in wanted]:
            seat = self._leaving[name] = self._scheduler.seats.pop(name)
            self._scheduler.lately.ceased(name, seat.models or (), now)
            self._decisions.gone(name, seat.in_flight)
            self._close_if_left(name)
        for engine in engines:
            known = self._engines.setdefault(engine.name, engine)
            if known is not engine:
                self._in_background(engine.close())
            self._seat(engine.name)
        if self._places is not None:
            self._places.seats_changed()
        self._look_after_engines()
        self._go_soon()

    def _seat(self, name: str) -> None:
        seats, limits = self._scheduler.seats, self._limits
        if name in seats:
            return
        seat = self._leaving.pop(name, None)  # it comes back
        if seat is None:
            seat = Seat(name, limits=limits.seats, breaker=limits.breaker)
            seat.breaker.starts(time.monotonic())
            self._models_at[name] = float("-inf")
            if self._places is not None:
                seat.share = 0
        seats[name] = seat
        self._decisions.appeared(name)

    def _close_if_left(self, name: str) -> None:
        seat = self._leaving.get(name)
        if seat is not None and not seat.in_flight and name not in self._asking:
            del self._leaving[name], self._models_at[name]
            self._figures.forget(name)
            self._in_background(self._engines.pop(name).close())

    def enter(self, work: Queued, came: Callable[[Turn], None]) -> None:
        """Puts work into the queue; `came` is told once, unless it `leaves` before. Whoever gets a
        dispatch says how it `ended`."""
        refusal = self._refusal(work)
        self._look_after_engines()
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
        self._close_if_left(dispatch.seat.name)
        self._go_soon()

    def report(self, held: int) -> Report:
        """How this worker is, which holds so many requests. Engines are asked what they serve then
        if it is not known: also before the first request comes."""
        self._look_after_engines()
        return report_of(
            self._worker, self._partitions, held, self._scheduler, self._served, time.monotonic()
        )

    async def close(self) -> None:
        """Closes the engines' connections."""
        self._closed = True
        if self._tick is not None:
            self._tick.cancel()
        if self._places is not None:
            self._places.close()
        await self._figures.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for engine in self._engines.values():
            await engine.close()

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
        self._figures.look()
        if self._places is not None:
            self._places.look_soon()

    def _ticked(self) -> None:
        self._tick = None
        self._look_after_engines()
        self._go()

    def _models_changed(self) -> None:
        for answer in list(self._waiting):
            work = self._scheduler.queue.find(answer)
            refusal = None if work is None else self._refusal(work)
            if refusal is not None:
                self._scheduler.queue.remove(answer)
                self._decisions.given_up(answer, refusal)
                self._waiting.pop(answer)(refusal)

    def _refusal(self, work: Queued) -> Exception | None:
        """Nobody that is known, or was lately, can ever do it."""
        seats, may_be_served = self._scheduler.seats, self._scheduler.may_be_served
        if not self._whole or not seats or may_be_served(work.needs):
            return None  # nobody knows what engines that come will serve
        if self._scheduler.lately.may_serve(work.needs, work.asked_at):
            return None
        if work.unable and may_be_served((work.model, frozenset())):
            return CannotContinue("no engine can go on with this answer")
        if work.begun:  # an engine has served it, whenever that was; another may come
            return None
        if min(self._models_at[name] for name in seats) < work.asked_at:  # one may serve it by now
            self._models_wanted_at = max(self._models_wanted_at, work.asked_at)
            return None
        return EngineRefused(f"No engine serves the model {work.model!r}.")

    def _look_after_engines(self) -> None:
        """Asks engines in the background: what they serve, and after a breaker's pause whether they
        are well."""
        now = time.monotonic()
        for name, seat in self._scheduler.seats.items():
            if name in self._asking:
                continue
            if seat.breaker.probe_due(now):
                self._ask(name, self._probe(self._engines[name], seat))
            elif self._models_at[name] < max(self._models_wanted_at, now - MODELS_SECONDS_MAX):
                self._ask(name, self._ask_models(self._engines[name], seat))

    def _ask(self, name: str, asking: Coroutine[Any, Any, None]) -> None:
        self._asking.add(name)
        self._in_background(asking).add_done_callback(lambda done: self._asked(name, done))

    def _in_background(self, doing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _asked(self, name: str, task: asyncio.Task[None]) -> None:
        self._asking.discard(name)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an engine adapter broke", exc_info=error, extra={"engine": name})
        self._close_if_left(name)
        self._go_soon()

    async def _probe(self, engine: Engine, seat: Seat) -> None:
        healthy = await engine.healthy()
        before = seat.breaker.state
        seat.breaker.probed(healthy=healthy, now=time.monotonic())
        self._decisions.breaker(seat, before)

    async def _ask_models(self, engine: Engine, seat: Seat) -> None:
        began_at = time.monotonic()
        try:
            models: Sequence[str] = await engine.models()
        except EngineFailed as error:
            if seat.models is None or not error.reached:
                self._engine_failed(seat, began_at, away=not error.reached)
            if seat.models is None:
                return
            models = seat.models  # what it said before serves on
        except Exception:
            self._engine_failed(seat, began_at, away=True)
            raise
        before, self._models_at[seat.name] = self._models_at[seat.name], began_at
        if models != seat.models or before < self._models_wanted_at:
            gone = (model for model in seat.models or () if model not in models)
            self._scheduler.lately.ceased(seat.name, gone, time.monotonic())
            seat.models = models
            self._models_changed()

    def _engine_failed(self, seat: Seat, began_at: float, *, away: bool) -> None:
        before = seat.breaker.state
        seat.breaker.failed(began_at, time.monotonic(), away=away)
        self._decisions.breaker(seat, before)
