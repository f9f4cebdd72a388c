"""Who calls: from the bearer key to its caller, remembered for a few seconds."""

import asyncio
import time
from collections import OrderedDict
from hashlib import sha256

from gateway.errors import InvalidKey
from gateway.limits import GatewayLimits
from gateway.ports import Caller, Keys


class KeyRing:
    """Looks keys up by their hash, so that how long it takes tells nothing about a key.

    Only keys that exist are remembered: a key works as soon as it was made, and unknown ones
    take no room. One that was revoked works for at most `key_cache_seconds` longer.
    """

    def __init__(self, keys: Keys, limits: GatewayLimits) -> None:
        self._keys = keys
        self._seconds = limits.key_cache_seconds
        self._entries_max = limits.key_cache_entries_max
        self._known: OrderedDict[str, tuple[float, Caller]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Caller | None]] = {}

    async def caller(self, authorization: str | None) -> Caller:
        """Whom an Authorization header stands for. Raises InvalidKey and StoreUnavailable."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise InvalidKey
        key_hash = sha256(key.strip().encode("utf-8", "surrogateescape")).hexdigest()
        known = self._known.get(key_hash)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        found = await self._ask(key_hash)
        if found is None:
            raise InvalidKey
        return found

    async def _ask(self, key_hash: str) -> Caller | None:
        """One question for all who ask the same at once."""
        asking = self._asking.get(key_hash)
        if asking is None:
            asking = asyncio.create_task(self._look_up(key_hash))
            self._asking[key_hash] = asking
            asking.add_done_callback(lambda _: self._asking.pop(key_hash, None))
        return await asyncio.shield(asking)

    async def _look_up(self, key_hash: str) -> Caller | None:
        found = await self._keys.find(key_hash)
        self._known.pop(key_hash, None)
        if found is not None:
            self._known[key_hash] = (time.monotonic() + self._seconds, found)
            if len(self._known) > self._entries_max:
                self._known.popitem(last=False)
        return found
