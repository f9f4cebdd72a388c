"""Asks engines what they say of their load, as long as this worker has calls under way there.

It helps to choose, and is no condition: an engine that does not say is judged by the worker's own
count, and one that fails to say is no worse for it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from processors.answers.engine import Engine
from processors.answers.scheduling.seats import Seat

log = logging.getLogger("thalweg.answers")

FIGURES_SECONDS = 0.4
"""Between two questions to an engine. Its page may be 100 kB: more often would cost, and less often
would see a batch of short answers too late."""

SILENT_SECONDS = 15.0
"""Before one that did not say is asked again: many export nothing at all."""


class FiguresPoll:
    """Of one worker. `look` after anything has changed; it goes on by itself from there."""

    def __init__(
        self,
        seats: Mapping[str, Seat],
        engine: Callable[[str], Engine],
        told: Callable[[], None],
    ) -> None:
        """`told`: figures came, so that there may be room again."""
        self._seats, self._engine, self._told = seats, engine, told
        self._due: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def look(self) -> None:
        """Looks at once at engines that have come into use, and then every `FIGURES_SECONDS`."""
        if self._timer is None and not self._closed:
            self._step()

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _step(self) -> None:
        self._timer = None
        used = [seat for seat in self._seats.values() if seat.in_flight]
        if self._closed or not used:
            return
        now = time.monotonic()
        for seat in used:
            if seat.name not in self._asking and now >= self._due.get(seat.name, now):
                self._due[seat.name] = now + FIGURES_SECONDS
                self._asking[seat.name] = asyncio.create_task(self._ask(seat))
        self._timer = asyncio.get_running_loop().call_later(FIGURES_SECONDS, self._step)

    async def _ask(self, seat: Seat) -> None:
        in_flight, figures = seat.in_flight, None
        try:
            figures = await self._engine(seat.name).figures()
        except Exception:
            log.exception("an engine adapter broke", extra={"engine": seat.name})
        finally:
            self._asking.pop(seat.name, None)
        if figures is None:
            self._due[seat.name] = time.monotonic() + SILENT_SECONDS
            return
        seat.told(figures, in_flight)
        self._told()

    def forget(self, name: str) -> None:
        """It has gone, and is to be closed."""
        self._due.pop(name, None)
        if (task := self._asking.pop(name, None)) is not None:
            task.cancel()
