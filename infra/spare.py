"""A process of a role that has imported everything and waits: when the one at work ends, it goes.

Nearly all of a start is imports. A spare costs the memory of what it has imported. It holds no
connection, and ends with the supervisor as every life does. What it is given does not change while
the supervisor lives: servers that are started again keep their addresses.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from infra.home import Part
from infra.lives import Life, first


@dataclass(frozen=True, eq=False)
class Begun:
    """A life that is kept, and its end: the exit status."""

    life: Life
    ended: asyncio.Task[int]


class Spare:
    """Keeps one waiting from `after_seconds` after `want` on, until it is taken.

    One that dies is replaced as late. `changed()` is called when `part` is another.
    """

    def __init__(self, role: str, *, after_seconds: float, changed: Callable[[], None]) -> None:
        self.part = Part(f"{role}-spare", state="stopped")
        self._after_seconds = after_seconds
        self._changed = changed
        self._wanted = asyncio.Event()
        self._taken = asyncio.Event()
        self._waiting: Begun | None = None
        self._stopped = False

    def want(self) -> None:
        """The role works: there is time to make one."""
        if not self._stopped:
            self._wanted.set()

    def take(self) -> Begun | None:
        """The one that waits, if there is one; from then on it is the caller's.

        One that still imports is left alone: its priority is low, which only root could raise.
        """
        self._wanted.clear()
        taken = self._waiting
        if taken is None or not taken.life.warm.is_set() or taken.ended.done():
            return None
        self._waiting = None
        self._taken.set()
        self._tell(None, "stopped")
        return taken

    async def keep(self, begin: Callable[[], Awaitable[Begun]]) -> None:
        """Until it is cancelled. `begin` starts a life that is not told to go."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(self._after_seconds)
            if self._wanted.is_set():
                try:
                    begun = await begin()
                except OSError:  # the machine is out of processes, memory or descriptors
                    continue
                await self._keep(begun)

    async def _keep(self, begun: Begun) -> None:
        """Until it is taken or has ended."""
        self._taken.clear()
        self._waiting = begun
        self._tell(begun.life.pid, "starting")
        try:
            if not await first(begun.life.warm, begun.ended) and self._waiting is begun:
                self._tell(begun.life.pid, "waiting")
            await first(self._taken, begun.ended)
        finally:
            if self._waiting is begun:
                self._kill()
                self._waiting = None
                self._tell(None, "stopped")

    def stop(self) -> None:
        """No more of them. The one that waits is killed: it has nothing to finish."""
        self._stopped = True
        self._wanted.clear()
        self._kill()

    def _kill(self) -> None:
        if self._waiting is not None:
            self._waiting.life.signal(signal.SIGKILL)

    def _tell(self, pid: int | None, state: str) -> None:
        self.part.pid, self.part.state = pid, state
        self._changed()
