"""Keys that are past their time are destroyed, whatever the store does meanwhile."""

import asyncio
from contextlib import suppress

from commands.errors import StoreUnavailable
from infra.key_sweeper import SWEEPS_AT_ONCE_MAX, sweep_keys

SECONDS_MAX = 30.0


class Keys:
    """A store with so many keys past their time, 500 a sweep; it may be away for some calls."""

    def __init__(self, due: int, *, away: int = 0) -> None:
        self.due = due
        self.away = away
        self.calls = 0
        self.gone = asyncio.Event()

    async def destroy_keys(self) -> int:
        self.calls += 1
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        destroyed = min(self.due, 500)
        self.due -= destroyed
        if not self.due:
            self.gone.set()
        return destroyed


async def swept(keys: Keys) -> None:
    sweeping = asyncio.create_task(sweep_keys(keys, sweep_seconds=0.001))
    async with asyncio.timeout(SECONDS_MAX):
        await keys.gone.wait()
    sweeping.cancel()
    with suppress(asyncio.CancelledError):
        await sweeping


async def test_all_that_is_due_goes_in_bounded_steps() -> None:
    keys = Keys(500 * SWEEPS_AT_ONCE_MAX + 1)
    await swept(keys)
    assert keys.calls >= SWEEPS_AT_ONCE_MAX + 1


async def test_an_outage_is_waited_out() -> None:
    keys = Keys(1, away=3)
    await swept(keys)
    assert keys.calls >= 4
