"""Destroys the keys of conversations that are not stored, once they are past their time.

It runs beside each recorder, which knows the same store and records the ends that keys wait for.
Any number may run: each key is destroyed once. While none runs, keys live longer than they should.
"""

import asyncio
import logging
from typing import Protocol

from commands.errors import StoreUnavailable
from infra.failpoints import hit

log = logging.getLogger("thalweg.recorder")

SWEEP_SECONDS = 5.0
"""Between looks: a key outlives its time by this. With nothing due it is a look at an index."""
SWEEPS_AT_ONCE_MAX = 20
"""In a row, while each finds as many as it may; then others get their turn."""


class KeyStore(Protocol):
    async def destroy_keys(self) -> int:
        """Destroys a bounded number of keys past their time; how many. Raises StoreUnavailable."""


async def sweep_keys(store: KeyStore, *, sweep_seconds: float = SWEEP_SECONDS) -> None:
    """Runs until cancelled; outages of the store are waited out."""
    while True:
        try:
            for _ in range(SWEEPS_AT_ONCE_MAX):
                hit("recorder.before_destroy")
                destroyed = await store.destroy_keys()
                if not destroyed:
                    break
                hit("recorder.after_destroy")
                log.info("keys of expired conversations were destroyed", extra={"keys": destroyed})
        except StoreUnavailable as error:
            log.warning("keys can't be destroyed now", extra={"reason": str(error)})
        await asyncio.sleep(sweep_seconds)
