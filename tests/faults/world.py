"""What a fault can reach, and what it may tell."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from infra.servers import resolve
from infra.settings import Settings
from tests.faults.door import Door
from tests.faults.engines import Engines
from tests.faults.history import History
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg

OWN_KEY = "fault-"
"""Commands that a fault sends by itself have idempotency keys that begin so. They are no clients':
of their streams only positions, ends and the log are judged."""
FIRST_OF_FAULTS = 1_000
"""The number of the first client that a fault has brought."""
T = TypeVar("T")


@dataclass
class World:
    thalweg: RunningThalweg
    engines: Engines
    random: random.Random
    """The only source of chance: a seed makes the same fault again."""
    long: bool = False
    """`make faults`; else one short round in `make test`."""
    history: History = field(default_factory=History)
    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What the fault itself has found wrong, in words."""
    pids: dict[str, list[int]] = field(default_factory=dict)
    """Of each role and server when the case began."""

    counted: Counter[str] = field(default_factory=Counter)
    """What had happened in all engines when the case began."""
    doors: list[Door] = field(default_factory=list)
    """Of clients that the fault has brought with it."""
    strangers: int = 0
    garbage: int = 0
    """Records that are no events, which the fault has put into the domain topic."""

    def door(self) -> Door:
        """One more client, whose commands and streams are judged like all others'. It is closed
        when the case is over."""
        number = FIRST_OF_FAULTS + len(self.doors)
        self.doors.append(Door(self.history, self.thalweg.url, self.thalweg.api_key, number))
        return self.doors[-1]

    def started_conversation(self) -> None:
        """The fault has begun a stream by other means: no client in the history has."""
        self.strangers += 1

    def note(self, text: str) -> None:
        """For the report of the case."""
        self.notes.append(text)

    def seconds(self, short: float, long: float) -> float:
        return long if self.long else short

    def strike(self, **facts: object) -> None:
        """Says that the fault strikes now, if that is later than when its function began."""
        self.history.mark("strike", **facts)

    @property
    def settings(self) -> Settings:
        return resolve(Settings(home=self.thalweg.home))

    async def until(self, condition: Callable[[], T | None], what: str, seconds_max: float) -> T:
        """Waits for a condition while the clients go on."""
        return await asyncio.to_thread(wait_for, condition, what, seconds_max=seconds_max)
