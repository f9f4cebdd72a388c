"""A clock that steps, for the Python roles alone: they load libfaketime, which reads a file.

The embedded servers start with an environment of their own and keep the machine's clock; monotonic
time is left alone, as a real step leaves it alone.
"""

import asyncio
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from tests.faults.world import World

CACHE_SECONDS = 1
"""A process looks at the file this often."""


def library() -> Path:
    """The shared object of the wheel `libfaketime`."""
    found = importlib.util.find_spec("libfaketime")
    assert found is not None, "libfaketime is not installed; `make test` installs it"
    assert found.origin is not None
    return Path(found.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"


HOUR = 3_600
STEPS = (HOUR, 0, -HOUR, 0)
BETWEEN_SECONDS = 3
"""Longer than a lease and a session: whatever believes the clock has had time to act on it."""


@dataclass(frozen=True)
class Clock:
    """Where it is told how far it is off."""

    file: Path

    @classmethod
    def of(cls, home: Path) -> "Clock":
        """Of the installation in that folder; the file lies beside it."""
        return cls(home.with_name(f"{home.name}.clock"))

    def set(self, seconds: int) -> None:
        """So many seconds before (+) or behind (-) the machine's clock."""
        draft = self.file.with_suffix(".new")
        draft.write_text(f"{seconds:+d}\n")
        draft.replace(self.file)

    def environment(self) -> dict[str, str]:
        """For the process whose Python children are to follow this clock."""
        return {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": str(CACHE_SECONDS),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }


async def stepped(world: World) -> None:
    """An hour forwards, an hour back, and the same the other way round. The installation has been
    started with such a clock."""
    clock = Clock.of(world.thalweg.home)
    try:
        for _ in range(int(world.seconds(1, 5))):
            for seconds in STEPS:
                clock.set(seconds)
                await asyncio.sleep(BETWEEN_SECONDS)
    finally:
        clock.set(0)
