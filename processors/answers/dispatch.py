"""Chooses the engine that speaks next: the one with the least in flight among those that can.

An engine that fails is left alone for a while, longer each time; one that is full, for a moment.
Nothing is shown of a call that fails before its first token, so another engine simply takes it.

What was accepted is answered: full engines are asked again until the answer's deadline, and so are
absent ones if a part of the answer was shown already. Only an engine that had the request and then
failed counts as an attempt, so that a request which breaks engines can't break them for ever.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field

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

log = logging.getLogger("thalweg.answers")

ENGINES_AWAY_SECONDS_MAX = 60.0  # a container that died is started again in less, with its model
ATTEMPTS_MAX = 10  # a request that kills engines must not take them all down for ever
PAUSE_AFTER_FAILURE_SECONDS = 0.25  # doubles with each failure in a row
PAUSE_SECONDS_MAX = 5.0
DOUBLINGS_MAX = 8  # any more are beyond PAUSE_SECONDS_MAX
PAUSE_WHEN_FULL_SECONDS = 0.1  # about how soon an engine's batch has room again
PAUSE_WHEN_FULL_SECONDS_MAX = 2.0  # it doubles for a call that is told so again and again
MODELS_SECONDS_MAX = 30.0  # how long what an engine said of its models is believed


@dataclass(slots=True, eq=False)
class _Seat:
    """What is known of one engine."""

    engine: Engine
    in_flight: int = 0
    failures: int = 0
    """In a row."""
    until: float = 0.0
    """Left alone until then (monotonic)."""
    failure_until: float = 0.0
    """The part of it that is because of the last failure."""
    models: tuple[str, ...] | None = None
    models_at: float = 0.0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def failed(self) -> None:
        """All calls that were in flight fail together: that is one failure."""
        now = time.monotonic()
        if now < self.failure_until:
            return
        doubled = PAUSE_AFTER_FAILURE_SECONDS * 2 ** min(self.failures, DOUBLINGS_MAX)
        self.failures += 1
        self.failure_until = now + min(PAUSE_SECONDS_MAX, doubled)
        self.until = max(self.until, self.failure_until)

    def full(self) -> None:
        self.until = max(self.until, time.monotonic() + PAUSE_WHEN_FULL_SECONDS)


class Dispatcher:
    """One per worker process. Knows the engines that the settings name."""

    def __init__(
        self, engines: Sequence[Engine], *, away_seconds_max: float = ENGINES_AWAY_SECONDS_MAX
    ) -> None:
        self._seats = [_Seat(engine) for engine in engines]
        self._away_seconds_max = away_seconds_max
        self._tasks: set[asyncio.Task[None]] = set()

    def call(self, model: str, prompt: Prompt, *, seconds_max: float, begun: bool) -> "Call":
        """A call that is not made yet; iterate over it.

        `seconds_max` is what is left of the answer's time: so long it waits for an engine with room
        and, if the answer has `begun` (something was shown), for any at all.
        """
        away_seconds_max = seconds_max if begun else min(seconds_max, self._away_seconds_max)
        return Call(self, model, prompt, seconds_max, away_seconds_max)

    async def seats(self, model: str) -> list[_Seat]:
        """Engines that serve the model and are not left alone now, the best first."""
        now = time.monotonic()
        free = [seat for seat in self._seats if seat.until <= now]
        unknown = [seat for seat in free if seat.models is None]
        if unknown:
            await asyncio.gather(*(self._ask_models(seat) for seat in unknown))
        for seat in free:
            if seat.models is not None and now - seat.models_at > MODELS_SECONDS_MAX:
                seat.models_at = now  # the old answer serves until the new one is there
                task = asyncio.create_task(self._ask_models(seat, again=True))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        able = [seat for seat in free if model in (seat.models or ())]
        return sorted(able, key=lambda seat: seat.in_flight)

    def is_anybody_else(self, model: str, unable: Collection[Engine]) -> bool:
        """Whether there is an engine, maybe away, that may serve the model and is not `unable`."""
        return any(
            seat.models is None or model in seat.models
            for seat in self._seats
            if seat.engine not in unable
        )

    def is_served(self, model: str) -> bool | None:
        """None: not every engine has said what it serves."""
        if any(model in (seat.models or ()) for seat in self._seats):
            return True
        return None if any(seat.models is None for seat in self._seats) else False

    async def _ask_models(self, seat: _Seat, *, again: bool = False) -> None:
        async with seat.asking:
            if seat.models is not None and not again:
                return
            try:
                seat.models = await seat.engine.models()
                seat.models_at = time.monotonic()
            except EngineFailed:
                if not again:
                    seat.failed()

    async def close(self) -> None:
        """Closes the engines' connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for seat in self._seats:
            await seat.engine.close()


@dataclass(slots=True)
class _Full:
    """When one call asks an engine again that had no room for it."""

    until: float = 0.0
    times: int = 0

    def again(self) -> float:
        doubled = PAUSE_WHEN_FULL_SECONDS * 2 ** min(self.times, DOUBLINGS_MAX)
        self.times += 1
        pause = min(PAUSE_WHEN_FULL_SECONDS_MAX, doubled) * random.uniform(0.5, 1)  # noqa: S311
        self.until = time.monotonic() + pause
        return self.until


class Call:
    """One call, on the first engine that gives a token."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        model: str,
        prompt: Prompt,
        seconds_max: float,
        away_seconds_max: float,
    ) -> None:
        self._dispatcher = dispatcher
        self._model = model
        self._prompt = prompt
        self._seconds_max = seconds_max
        self._away_seconds_max = away_seconds_max
        self._full: dict[Engine, _Full] = {}
        self.engine: Engine | None = None
        """Who speaks."""

    async def tokens(
        self, *, prefer: Engine | None = None, avoid: Engine | None = None
    ) -> AsyncGenerator[Token | Finished, None]:
        """Yields tokens, then one Finished.

        Raises Overloaded, EngineRefused, CannotContinue or EngineFailed when, within the bounds, no
        engine took the call; EngineFailed also in the middle. `avoid` is taken only if there is no
        other.
        """
        until = time.monotonic() + self._seconds_max
        last: Exception = EngineFailed(
            f"no engine serves the model {self._model!r} now", reached=False
        )
        unable: set[Engine] = set()
        attempts = 0
        away_until = min(until, time.monotonic() + self._away_seconds_max)
        while attempts < ATTEMPTS_MAX:
            seat = await self._choose(away_until, prefer, avoid, unable)
            if seat is None:
                break
            self.engine = seat.engine
            said = False
            seat.in_flight += 1
            stream = seat.engine.generate(self._prompt)
            try:
                async for item in stream:
                    said = True
                    seat.failures = 0
                    yield item
                return
            except EngineFailed as error:
                seat.failed()
                log.warning(
                    "an engine failed", extra={"engine": seat.engine.name, "kind": error.kind}
                )
                if said:
                    raise
                attempts += error.reached
                last, avoid, prefer = error, seat.engine, None
            except Overloaded as error:
                seat.full()
                again_at = self._full.setdefault(seat.engine, _Full()).again()
                away_until = min(until, again_at + self._away_seconds_max)
                last = error
            except CannotContinue as error:
                unable.add(seat.engine)  # another may come back that can
                away_until = min(away_until, time.monotonic() + ENGINES_AWAY_SECONDS_MAX)
                last = error
            finally:
                seat.in_flight -= 1
                await _close(stream)
        raise last

    async def _choose(
        self, until: float, prefer: Engine | None, avoid: Engine | None, unable: set[Engine]
    ) -> _Seat | None:
        """Waits for an engine; None if there is none in time."""
        while True:
            seats = await self._dispatcher.seats(self._model)
            now = time.monotonic()
            able = [
                seat
                for seat in seats
                if seat.engine not in unable
                and not ((full := self._full.get(seat.engine)) and now < full.until)
            ]
            for seat in able:
                if seat.engine is prefer:
                    return seat
            for seat in able:
                if seat.engine is not avoid:
                    return seat
            if able:
                return able[0]
            if unable and not self._dispatcher.is_anybody_else(self._model, unable):
                return None  # everybody has said that it can't
            if self._dispatcher.is_served(self._model) is False:
                raise EngineRefused(f"No engine serves the model {self._model!r}.")
            if now >= until:
                return None
            await asyncio.sleep(PAUSE_WHEN_FULL_SECONDS)


async def _close(stream: AsyncIterator[Token | Finished]) -> None:
    """Closes the engine's connection: leaving a loop over a generator does not."""
    if isinstance(stream, AsyncGenerator):
        await stream.aclose()
