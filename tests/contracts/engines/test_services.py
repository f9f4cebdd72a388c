"""Engines behind SRV records, asked of a name server on this machine."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial

import dns.flags
import dns.message
import dns.rrset
import pytest
from dns.asyncresolver import Resolver

from infra.engine_addresses import EngineAddress
from infra.engines import names
from infra.engines.names import EnginesByName, found_at, services
from infra.limits import Limits

HOST = "_tgi._tcp.engines.test"
NAME = EngineAddress.parse(f"tgi+srv://{HOST}")
OPENAI = EngineAddress.parse(f"openai+srv://{HOST}/v1")
IPS = {"one.test": ["10.0.0.1"], "two.test": ["10.0.0.2", "10.0.0.3"], "far.test": ["10.9.9.9"]}


class NameServer(asyncio.DatagramProtocol):
    """Answers every question with the same SRV records, or not at all."""

    def __init__(self) -> None:
        self.records: Sequence[str] | None = ()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        if self.records is None or self._transport is None:
            return
        answer = dns.message.make_response(dns.message.from_wire(data))
        answer.flags |= dns.flags.RA
        if self.records:
            answer.answer.append(dns.rrset.from_text(f"{HOST}.", 5, "IN", "SRV", *self.records))
        self._transport.sendto(answer.to_wire(), peer)


@pytest.fixture
async def name_server() -> AsyncIterator[tuple[NameServer, names.Services]]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        NameServer, ("127.0.0.1", 0)
    )
    resolver = Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = transport.get_extra_info("sockname")[1]
    yield server, partial(services, resolver=resolver)
    transport.close()


async def ips_of(host: str, port: int) -> Sequence[str]:
    return IPS[host]


async def test_there_is_an_engine_at_each_record_of_the_first_priority(
    name_server: tuple[NameServer, names.Services],
) -> None:
    server, ask = name_server
    server.records = ["2 1 3000 far.test.", "1 9 3001 one.test.", "1 1 3002 two.test."]
    found = await found_at(NAME, ips_of, ask)
    assert found.is_whole
    assert [str(one) for one in found.engines] == [
        "tgi+http://10.0.0.1:3001",
        "tgi+http://10.0.0.2:3002",
        "tgi+http://10.0.0.3:3002",
    ]
    assert str((await found_at(OPENAI, ips_of, ask)).engines[0]) == "openai+http://10.0.0.1:3001/v1"


async def test_a_record_without_an_address_hides_no_other(
    name_server: tuple[NameServer, names.Services],
) -> None:
    server, ask = name_server
    server.records = ["1 9 3001 one.test.", "1 1 3002 two.test."]
    away = "two.test"

    async def ips(host: str, port: int) -> Sequence[str]:
        if host in away:
            raise OSError("no such host")
        return IPS[host]

    told: list[list[str]] = []
    by_name = EnginesByName(
        [NAME],
        Limits(),
        lambda engines, whole: told.append([engine.name for engine in engines]),
        resolve=ips,
        services=ask,
    )
    await by_name.look(NAME)
    assert [len(engines) for engines in told] == [1]
    away = ""
    await by_name.look(NAME)
    away = "two.test"
    for _ in range(2 * names.MISSED_MAX):
        await by_name.look(NAME)
    assert [len(engines) for engines in told] == [1, 3], "an outage of DNS is none of the engines"
    away = "one.test two.test"
    with pytest.raises(OSError, match="no such host"):
        await found_at(NAME, ips, ask)


@pytest.mark.parametrize("records", [(), None])
async def test_without_records_or_an_answer_there_is_an_error_that_keeps_the_engines(
    name_server: tuple[NameServer, names.Services],
    records: Sequence[str] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(names, "SRV_SECONDS_MAX", 0.5)
    server, ask = name_server
    server.records = records
    with pytest.raises(OSError, match="SRV"):
        await found_at(NAME, ips_of, ask)


def test_a_name_with_services_has_no_port() -> None:
    with pytest.raises(ValueError, match="names a port"):
        EngineAddress.parse("tgi+srv://_tgi._tcp.engines.test:3000")
