"""Makes the calls that the scheduler decides on: one queue and all engines, on one event loop.

Nothing is shown of a call that fails before its first token, so another engine simply takes it,
within a budget of retries. What was accepted is answered: work waits for an engine as long as its
band is patient and, if a part of the answer was shown already, until its deadline. Only an engine
that had the request and then failed counts as an attempt, so that a request which breaks engines
can't break them for ever.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from events.ids import AnswerId
from processors.answers.engine import (
    CannotContinue,
    Engine,
    EngineFailed,
    EngineRefused,
    Finished,
    Overloaded,
    Prompt,
    Token,
)
from processors.answers.ports import Request
from processors.answers.scheduling.breaker import BreakerLimits
from processors.answers.scheduling.retries import RetryLimits
from processors.answers.scheduling.scheduler import Dispatch, Outcome, Scheduler
from processors.answers.scheduling.seats import Seat, SeatLimits
from processors.answers.scheduling.work import Queued, QueueLimits, Why

log = logging.getLogger("thalweg.answers")

ATTEMPTS_MAX = 10  # a request that kills engines must not take them all down for ever
MODELS_SECONDS_MAX = 30.0  # how long what an engine said of its models is believed
TICK_SECONDS = 0.05  # while work waits: pauses of breakers end, engines start slowly
CHARACTERS_PER_TOKEN = 4  # about, of English; the charge is corrected by the engine's own count


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


class Dispatcher:
    """One per worker process. Knows the engines that the settings name."""

    def __init__(
        self,
        engines: Sequence[Engine],
        limits: DispatchLimits | None = None,
        *,
        chance: random.Random | None = None,
    ) -> None:
        limits = limits or DispatchLimits()
        self._engines = {engine.name: engine for engine in engines}
        self._scheduler = Scheduler(
            chance or random.Random(),  # noqa: S311  # who speaks is no secret
            limits=limits.queue,
            retries=limits.retries,
        )
        for name in self._engines:
            self._scheduler.seats[name] = Seat(name, limits=limits.seats, breaker=limits.breaker)
        self._models_at = dict.fromkeys(self._engines, float("-inf"))
        self._asking: set[str] = set()
        """Engines that are asked for their models or their health now."""
        self._waiting: dict[AnswerId, asyncio.Future[Dispatch]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tick: asyncio.TimerHandle | None = None
        self._closed = False

    def call(self, work: Queued, prompt: Prompt) -> "Call":
        """A call that is not made yet; iterate over it."""
        return Call(self, work, prompt)

    def engine(self, name: str) -> Engine:
        return self._engines[name]

    async def acquire(self, work: Queued) -> Dispatch:
        """Waits for the work's turn. Raises GivenUp, EngineRefused, CannotContinue, Overloaded.

        Whoever gets a dispatch says how it `ended`.
        """
        self._look_after_engines()
        self._refuse_what_nobody_does(work)
        turn: asyncio.Future[Dispatch] = asyncio.get_running_loop().create_future()
        if not self._scheduler.queue.put(work, time.monotonic()):
            raise Overloaded("the worker's queue is full")
        self._waiting[work.answer] = turn
        self._go()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.ended(turn.result(), Outcome.LET_GO, 0)
            raise
        finally:
            if self._waiting.get(work.answer) is turn:
                del self._waiting[work.answer]
                self._scheduler.queue.remove(work.answer)

    def may_retry(self) -> bool:
        return self._scheduler.retries.take(time.monotonic())

    def ended(self, dispatch: Dispatch, outcome: Outcome, used: int) -> None:
        """`used`: tokens, of the prompt and of what was said."""
        self._scheduler.ended(dispatch, outcome, used, time.monotonic())
        self._go()

    async def close(self) -> None:
        """Closes the engines' connections."""
        self._closed = True
        if self._tick is not None:
            self._tick.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for engine in self._engines.values():
            await engine.close()

    # ---------------------------------------------------------------------------------------------

    def _go(self) -> None:
        """Gives up what has waited too long, and dispatches what there is room for."""
        now, scheduler = time.monotonic(), self._scheduler
        for work, why in scheduler.given_up(now):
            turn = self._waiting.pop(work.answer, None)
            if turn is not None and not turn.done():
                turn.set_exception(GivenUp(why))
        while (dispatch := scheduler.next(now)) is not None:
            turn = self._waiting.pop(dispatch.work.answer, None)
            if turn is None or turn.done():
                scheduler.ended(dispatch, Outcome.LET_GO, 0, now)
                continue
            scheduler.retries.called(now)
            turn.set_result(dispatch)
        if len(scheduler.queue) and self._tick is None and not self._closed:
            self._tick = asyncio.get_running_loop().call_later(TICK_SECONDS, self._ticked)

    def _ticked(self) -> None:
        self._tick = None
        self._look_after_engines()
        for answer, turn in list(self._waiting.items()):
            work = self._scheduler.queue.find(answer)
            if work is not None and not turn.done():
                try:
                    self._refuse_what_nobody_does(work)
                except (EngineRefused, CannotContinue) as error:
                    self._scheduler.queue.remove(answer)
                    turn.set_exception(error)
        self._go()

    def _refuse_what_nobody_does(self, work: Queued) -> None:
        if self._scheduler.may_be_served(work.needs):
            return
        if work.unable and self._scheduler.may_be_served((work.model, frozenset())):
            raise CannotContinue("no engine can go on with this answer")
        raise EngineRefused(f"No engine serves the model {work.model!r}.")

    def _look_after_engines(self) -> None:
        """Asks engines in the background, while there is work for them: what they serve, and after
        a breaker's pause whether they are well."""
        now = time.monotonic()
        for name, seat in self._scheduler.seats.items():
            if name in self._asking:
                continue
            if seat.breaker.probe_due(now):
                self._ask(name, self._probe(name, seat))
            elif now - self._models_at[name] > MODELS_SECONDS_MAX:
                self._ask(name, self._ask_models(name, seat))

    def _ask(self, name: str, asking: Coroutine[Any, Any, None]) -> None:
        self._asking.add(name)
        task = asyncio.create_task(asking)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._asked(name, done))

    def _asked(self, name: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._asking.discard(name)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an engine adapter broke", exc_info=error, extra={"engine": name})
        if not self._closed:
            self._go()

    async def _probe(self, name: str, seat: Seat) -> None:
        healthy = await self._engines[name].healthy()
        seat.breaker.probed(healthy=healthy, now=time.monotonic())

    async def _ask_models(self, name: str, seat: Seat) -> None:
        began_at = time.monotonic()
        try:
            seat.models = await self._engines[name].models()
            self._models_at[name] = time.monotonic()
        except EngineFailed as error:
            if seat.models is None:
                seat.breaker.failed(began_at, time.monotonic(), away=not error.reached)
            else:
                self._models_at[name] = time.monotonic()  # what it said before serves on


class Call:
    """One call, on the first engine that gives a token."""

    def __init__(self, dispatcher: Dispatcher, work: Queued, prompt: Prompt) -> None:
        self._dispatcher = dispatcher
        self._work = work
        self._prompt = prompt
        self.engine: str | None = None
        """The name of who speaks."""

    async def tokens(self) -> AsyncGenerator[Token | Finished, None]:
        """Yields tokens, then one Finished.

        Raises Overloaded, EngineRefused, CannotContinue or EngineFailed when, within the bounds, no
        engine took the call; EngineFailed also in the middle.
        """
        attempts = 0
        last: Exception | None = None
        while True:
            try:
                dispatch = await self._dispatcher.acquire(self._work)
            except GivenUp as given_up:
                raise last or _error_of(given_up.why, self._work.model) from None
            self.engine = dispatch.seat.name
            speaking = _Speaking(self._dispatcher, dispatch, self._prompt)
            try:
                async with aclosing(speaking.tokens()) as tokens:
                    async for item in tokens:
                        yield item
                return
            except EngineFailed as error:
                attempts += error.reached
                last = error
                log.warning("an engine failed", extra={"engine": self.engine, "kind": error.kind})
                if speaking.said or attempts >= ATTEMPTS_MAX:
                    raise
                if error.reached and not self._dispatcher.may_retry():
                    raise
                self._work = replace(self._work, avoid=self.engine)
            except Overloaded as error:
                last = error
            except CannotContinue as error:
                last = error
                self._work = replace(self._work, unable=self._work.unable | {self.engine})


class _Speaking:
    """One dispatch: what the engine says, and what that says of the engine."""

    def __init__(self, dispatcher: Dispatcher, dispatch: Dispatch, prompt: Prompt) -> None:
        self._dispatcher = dispatcher
        self._dispatch = dispatch
        self._prompt = prompt
        self.said = False

    async def tokens(self) -> AsyncGenerator[Token | Finished, None]:
        engine = self._dispatcher.engine(self._dispatch.seat.name)
        outcome, tokens, finished = Outcome.LET_GO, 0, None
        stream = engine.generate(self._prompt)
        try:
            async for item in stream:
                self.said = True
                if isinstance(item, Finished):
                    outcome, finished = Outcome.FINISHED, item
                else:
                    tokens += 1
                yield item
        except EngineFailed as error:
            outcome = Outcome.FAILED if error.reached else Outcome.AWAY
            raise
        except Overloaded:
            outcome = Outcome.FULL
            raise
        finally:
            try:
                await _close(stream)
            finally:
                used = tokens + self._prompt_tokens(finished)
                self._dispatcher.ended(self._dispatch, outcome, used)

    def _prompt_tokens(self, finished: Finished | None) -> int:
        """As the engine counted them, else about; none if it did not get to them."""
        if finished is not None and finished.prompt_tokens is not None:
            return finished.prompt_tokens
        return prompt_tokens_of(self._prompt) if self.said else 0


def work_of(
    request: Request,
    prompt: Prompt,
    *,
    asked_at: float,
    deadline: float,
    begun: bool,
    avoid: str | None,
) -> Queued:
    """A request as the queue has it. Times: monotonic, seconds."""
    return Queued(
        request.answer,
        request.conversation,
        request.tenant,
        request.place.band,
        request.model,
        tokens=prompt_tokens_of(prompt) + prompt.tokens_max,
        asked_at=asked_at,
        deadline=deadline,
        begun=begun,
        avoid=avoid,
    )


def prompt_tokens_of(prompt: Prompt) -> int:
    """About."""
    characters = sum(len(message.content) for message in prompt.messages) + len(prompt.said)
    return characters // CHARACTERS_PER_TOKEN


def _error_of(why: Why, model: str) -> Exception:
    if why is Why.NO_CAPACITY:
        return EngineFailed(f"no engine serves the model {model!r} now", reached=False)
    return Overloaded("no engine had room in time")


async def _close(stream: AsyncIterator[Token | Finished]) -> None:
    """Closes the engine's connection: leaving a loop over a generator does not."""
    if isinstance(stream, AsyncGenerator):
        await stream.aclose()
