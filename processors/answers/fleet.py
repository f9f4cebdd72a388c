"""The engines of one worker: which there are, what each serves, and whether it is well.

They come and go while it runs. They are asked in the background: what they serve, after a breaker's
pause whether they are well, and how full they are. Nothing waits for what they say.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from processors.answers.decisions import Decisions
from processors.answers.engine import CannotContinue, Engine, EngineFailed, EngineRefused
from processors.answers.figures import FiguresPoll
from processors.answers.scheduling.breaker import BreakerLimits
from processors.answers.scheduling.scheduler import Scheduler
from processors.answers.scheduling.seats import Seat, SeatLimits
from processors.answers.scheduling.work import Queued

log = logging.getLogger("thalweg.answers")

MODELS_SECONDS_MAX = 30.0  # how long what an engine said of its models is believed


class Fleet:
    """Keeps up the scheduler's seats, on one event loop."""

    def __init__(
        self,
        engines: Sequence[Engine],
        scheduler: Scheduler,
        decisions: Decisions,
        *,
        seats: SeatLimits,
        breaker: BreakerLimits,
        whole: bool,
        shared: bool,
        changed: Callable[[], None],
        models_changed: Callable[[], None],
    ) -> None:
        """Not `whole`: there are engines that are not known yet. `shared`: with other workers, so
        that this one has no places of a new engine until it is told which. `changed`: there may be
        room again. `models_changed`: what waits may be served by nobody now."""
        self._engines = {engine.name: engine for engine in engines}
        self._scheduler = scheduler
        self._decisions = decisions
        self._limits, self._breaker = seats, breaker
        self._whole, self._shared = whole, shared
        self._changed, self._models_changed = changed, models_changed
        for name in self._engines:
            scheduler.seats[name] = Seat(name, limits=seats, breaker=breaker)
        self._leaving: dict[str, Seat] = {}
        """Engines that have gone and are still at work for us."""
        self.figures = FiguresPoll(scheduler.seats, self.engine, changed)
        self._models_at = dict.fromkeys(self._engines, float("-inf"))
        """When each engine was asked what it serves, of what is known."""
        self._models_wanted_at = float("-inf")
        """Work came then that no engine serves, by what was known."""
        self._asking: set[str] = set()
        """Engines that are asked for their models or their health now."""
        self._tasks: set[asyncio.Task[None]] = set()

    def engine(self, name: str) -> Engine:
        """One that has gone as well, until its last call is over."""
        return self._engines[name]

    def set_engines(self, engines: Sequence[Engine], *, whole: bool) -> None:
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

    def call_ended(self, name: str) -> None:
        """It may have been the last one of an engine that has gone."""
        self._close_if_left(name)

    async def close(self) -> None:
        """Closes the engines' connections."""
        await self.figures.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for engine in self._engines.values():
            await engine.close()

    def refusal(self, work: Queued) -> Exception | None:
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

    def look(self) -> None:
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

    # ---------------------------------------------------------------------------------------------

    def _seat(self, name: str) -> None:
        seats = self._scheduler.seats
        if name in seats:
            return
        seat = self._leaving.pop(name, None)  # it comes back
        if seat is None:
            seat = Seat(name, limits=self._limits, breaker=self._breaker)
            seat.breaker.starts(time.monotonic())
            self._models_at[name] = float("-inf")
            if self._shared:
                seat.share = 0
        seats[name] = seat
        self._decisions.appeared(name)

    def _close_if_left(self, name: str) -> None:
        seat = self._leaving.get(name)
        if seat is not None and not seat.in_flight and name not in self._asking:
            del self._leaving[name], self._models_at[name]
            self.figures.forget(name)
            self._in_background(self._engines.pop(name).close())

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
        self._changed()

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
