"""Engines behind names: one engine for each address that DNS gives, asked for again and again.

The system's own resolver is used (`getaddrinfo`: hosts file, search list, caches), so that a name
means here what it means to every other program of the machine. It knows no SRV records: those are
asked of the name servers of resolv.conf. Of them the ones of the first priority count, whatever
their weights: how loaded an engine is says more. A name that cannot be resolved, or that has no
address, keeps the engines that it had: an outage of DNS is none of the engines. Nor is one answer
without an engine its end: some name servers give a part of their addresses in turn.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from infra.engine_addresses import EngineAddress
from infra.engines import open_engine
from infra.limits import Limits
from processors.answers.engine import Engine

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

log = logging.getLogger("thalweg.engines")

RESOLVE_SECONDS = 5.0
"""Between two looks: what Kubernetes and Docker give is as fresh, by their caches."""

RESOLVE_FIRST_SECONDS = 0.5
"""The same while the name has never had an address: work may wait for it."""

ADDRESSES_MAX = 256
"""Of one name; any more are left out, in their order."""

MISSED_MAX = 3
"""Answers in a row without an engine, some 15 s; then it has gone. Who calls it meanwhile although
it is away notices within the time to connect, and asks another."""

SRV_SECONDS_MAX = 5.0
"""Until the name servers' answer; then the engines stay as they were."""

Service = tuple[int, str, int]
"""Priority, host and port of an SRV record."""

Services = Callable[[str], Awaitable[Sequence[Service]]]
"""The SRV records of a name. Raises OSError."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The IP addresses of a host for connections to a port. Raises OSError."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """By the operating system, which bounds the wait (resolv.conf: timeout and attempts)."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


async def services(name: str, resolver: "Resolver | None" = None) -> Sequence[Service]:
    """By the name servers of resolv.conf, or a resolver of one's own."""
    from dns.asyncresolver import Resolver
    from dns.exception import DNSException

    try:
        found = await (resolver or Resolver()).resolve(name, "SRV", lifetime=SRV_SECONDS_MAX)
    except DNSException as error:
        raise OSError(f"no SRV records of {name}: {error!r}") from error
    return [(each.priority, each.target.to_text(omit_final_dot=True), each.port) for each in found]


@dataclass(frozen=True, slots=True)
class Found:
    """What DNS says of a name."""

    engines: tuple[EngineAddress, ...]
    is_whole: bool
    """Not: a host of an SRV record could not be resolved."""


async def found_at(
    name: EngineAddress, resolve: Resolve = resolve, services: Services = services
) -> Found:
    """The engines behind a name now. Raises OSError, UnicodeError if no host can be resolved."""
    host, port = name.host_and_port
    if name.has_services:
        records = sorted(await services(host))[:ADDRESSES_MAX]
        targets = [(host, port) for first, host, port in records if first == records[0][0]]
    else:
        targets = [(host, port)]
    places: set[tuple[str, int]] = set()
    failed: OSError | UnicodeError | None = None
    for host, port in targets:
        try:
            places.update((ip, port) for ip in await resolve(host, port))
        except (OSError, UnicodeError) as error:
            failed = error
    if failed is not None and not places:
        raise failed
    engines = tuple(name.at(ip, port) for ip, port in sorted(places)[:ADDRESSES_MAX])
    return Found(engines, is_whole=failed is None)


class Tell(Protocol):
    """Is given all engines whenever they have changed, and closes those that are gone."""

    def __call__(self, engines: Sequence[Engine], *, whole: bool) -> None:
        """Not `whole`: there are others, of a name that has had no address yet."""


class EnginesByName:
    """Keeps up the engines of a list of addresses, some of which are names."""

    def __init__(
        self,
        addresses: Sequence[EngineAddress],
        limits: Limits,
        tell: Tell,
        *,
        engines: Sequence[Engine] = (),
        resolve: Resolve = resolve,
        services: Services = services,
    ) -> None:
        """`engines`: those that were opened for the addresses that are no names."""
        self._names = [address for address in addresses if address.is_name]
        self._limits, self._tell = limits, tell
        self._resolve, self._services = resolve, services
        self._fixed = tuple(engines)
        self._found: dict[EngineAddress, tuple[EngineAddress, ...]] = {}
        self._missed: dict[EngineAddress, dict[EngineAddress, int]] = {}
        """By name and engine: in how many of the last answers in a row it was not."""
        self._opened: Mapping[EngineAddress, Engine] = {}

    @property
    def are_all_found(self) -> bool:
        """Each name has had an address since the beginning."""
        return all(name in self._found for name in self._names)

    async def run(self) -> None:
        """For ever; returns at once if there is no name."""
        async with asyncio.TaskGroup() as group:
            for name in self._names:
                group.create_task(self._follow(name))

    async def _follow(self, name: EngineAddress) -> None:
        while True:
            await self.look(name)
            known = name in self._found
            await asyncio.sleep(RESOLVE_SECONDS if known else RESOLVE_FIRST_SECONDS)

    async def look(self, name: EngineAddress) -> None:
        """Resolves it once."""
        try:
            found = await found_at(name, self._resolve, self._services)
        except (OSError, UnicodeError) as error:
            log.warning(
                "a name of engines has no address",
                extra={"engines": str(name), "error": repr(error)},
            )
            return
        if not found.engines:
            return
        kept = self._with_missed(name, found)
        if set(kept) != set(self._found.get(name, ())):
            log.info("engines behind a name changed", extra={"engines": [str(one) for one in kept]})
            self._found[name] = kept
            self._changed()

    def _with_missed(self, name: EngineAddress, found: Found) -> tuple[EngineAddress, ...]:
        """An answer, and after it what is not in it but was in one of the last."""
        before, now = self._missed.get(name, {}), found.engines
        missed = {one: before.get(one, 0) + found.is_whole for one in self._found.get(name, ())}
        self._missed[name] = {
            one: times for one, times in missed.items() if one not in now and times < MISSED_MAX
        }
        return (*now, *self._missed[name])[:ADDRESSES_MAX]

    def _changed(self) -> None:
        wanted = dict.fromkeys(address for found in self._found.values() for address in found)
        self._opened = {
            address: self._opened.get(address) or open_engine(address, self._limits)
            for address in wanted
        }
        self._tell((*self._fixed, *self._opened.values()), whole=self.are_all_found)
