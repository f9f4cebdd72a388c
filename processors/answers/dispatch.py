"""Chooses the engine that speaks next: the one with the least in flight among those that can.

An engine that fails is left alone for a while, longer each time; one that is full, for a moment.
Nothing is shown of a call that fails before its first token, so another engine simply takes it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
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

DISPATCH_SECONDS_MAX = 30.0  # an engine that died is started again in less
ATTEMPTS_MAX = 10  # a request that kills engines must not take them all down for ever
PAUSE_AFTER_FAILURE_SECONDS = 0.25  # doubles with each failure in a row
PAUSE_SECONDS_MAX = 5.0
PAUSE_WHEN_FULL_SECONDS = 0.1  # about how soon an engine's batch has room again
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
    models: tuple[str, ...] | None = None
    models_at: float = 0.0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def failed(self) -> None:
        pause = min(PAUSE_SECONDS_MAX, PAUSE_AFTER_FAILURE_SECONDS * 2**self.failures)
        self.failures += 1
        self.until = time.monotonic() + pause

    def full(self) -> None:
        self.until = time.monotonic() + PAUSE_WHEN_FULL_SECONDS


class Dispatcher:
    """One per worker process. Knows the engines that the settings name."""

    def __init__(
        self, engines: Sequence[Engine], *, seconds_max: float = DISPATCH_SECONDS_MAX
    ) -> None:
        self._seats = [_Seat(engine) for engine in engines]
        self._seconds_max = seconds_max
        self._tasks: set[asyncio.Task[None]] = set()

    def call(self, model: str, prompt: Prompt) -> "Call":
        """A call that is not made yet; iterate over it."""
        return Call(self, model, prompt, self._seconds_max)

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


class Call:
    """One call, on the first engine that gives a token."""

    def __init__(
        self, dispatcher: Dispatcher, model: str, prompt: Prompt, seconds_max: float
    ) -> None:
        self._dispatcher = dispatcher
        self._model = model
        self._prompt = prompt
        self._seconds_max = seconds_max
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
        last: Exception = EngineFailed(f"no engine serves the model {self._model!r} now")
        unable: set[Engine] = set()
        for _attempt in range(ATTEMPTS_MAX):
            seat = await self._choose(until, prefer, avoid, unable)
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
                last, avoid, prefer = error, seat.engine, None
            except Overloaded as error:
                seat.full()
                last = error
            except CannotContinue as error:
                unable.add(seat.engine)
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
            able = [seat for seat in seats if seat.engine not in unable]
            for seat in able:
                if seat.engine is prefer:
                    return seat
            for seat in able:
                if seat.engine is not avoid:
                    return seat
            if able:
                return able[0]
            if unable and len(seats) == len(unable):
                return None  # everybody who is there has said that it can't
            if self._dispatcher.is_served(self._model) is False:
                raise EngineRefused(f"No engine serves the model {self._model!r}.")
            if time.monotonic() >= until:
                return None
            await asyncio.sleep(PAUSE_WHEN_FULL_SECONDS)


async def _close(stream: AsyncIterator[Token | Finished]) -> None:
    """Closes the engine's connection: leaving a loop over a generator does not."""
    if isinstance(stream, AsyncGenerator):
        await stream.aclose()
