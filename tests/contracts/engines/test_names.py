"""Engines behind names: they follow what DNS says, and outlive what it does not say."""

from collections.abc import Sequence

import pytest

from infra.engine_addresses import EngineAddress
from infra.engines import names
from infra.engines.names import EnginesByName
from infra.limits import Limits
from infra.served_models import ServedModels
from processors.answers.engine import Engine
from processors.answers.scheduling import lately
from tests.contracts.engines.replay import ReplayServer
from tests.processors.answers.fakes import FakeEngine

NAME = EngineAddress.parse("tgi+dns://engines.test:3000")


class Dns:
    """What a resolver says next."""

    def __init__(self, *ips: str) -> None:
        self.ips: Sequence[str] | OSError = ips

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        assert (host, port) == NAME.host_and_port
        if isinstance(self.ips, OSError):
            raise self.ips
        return self.ips


class Told:
    """The lists of engines, one after the other."""

    def __init__(self) -> None:
        self.engines: list[Sequence[Engine]] = []

    def __call__(self, engines: Sequence[Engine], *, whole: bool) -> None:
        self.engines.append(engines)

    @property
    def names(self) -> list[list[str]]:
        return [[engine.name for engine in engines] for engines in self.engines]


async def test_there_is_an_engine_at_each_address() -> None:
    told, dns = Told(), Dns("10.0.0.2", "10.0.0.1", "10.0.0.2", "fd00::1")
    fixed = FakeEngine("fixed")
    await EnginesByName([NAME], Limits(), told, engines=[fixed], resolve=dns).look(NAME)
    addresses = ["http://10.0.0.1:3000/", "http://10.0.0.2:3000/", "http://[fd00::1]:3000/"]
    assert [[name.rstrip("/") for name in each] for each in told.names] == [
        ["fixed", *(address.rstrip("/") for address in addresses)]
    ]


async def test_engines_come_and_go_and_those_that_stay_are_the_same() -> None:
    told, dns = Told(), Dns("10.0.0.1", "10.0.0.2")
    by_name = EnginesByName([NAME], Limits(), told, resolve=dns)
    await by_name.look(NAME)
    await by_name.look(NAME)
    assert len(told.engines) == 1, "nothing has changed"
    dns.ips = ("10.0.0.2", "10.0.0.3")
    for _ in range(names.MISSED_MAX):
        await by_name.look(NAME)
    before, both, after = told.engines
    assert both[2] is before[0]
    assert after[0] is both[0] is before[1]
    assert "10.0.0.3" in after[1].name


async def test_an_engine_that_is_missing_in_some_answers_has_not_gone() -> None:
    told, dns = Told(), Dns("10.0.0.1", "10.0.0.2")
    by_name = EnginesByName([NAME], Limits(), told, resolve=dns)
    await by_name.look(NAME)
    for _ in range(10):
        for turn in (("10.0.0.1",), ("10.0.0.2",)):
            dns.ips = turn
            await by_name.look(NAME)
    dns.ips = ("10.0.0.1",)
    for _ in range(names.MISSED_MAX - 1):
        await by_name.look(NAME)
    dns.ips = OSError("no answer")
    await by_name.look(NAME)
    assert len(told.engines) == 1


async def test_names_are_all_found_once_each_has_had_an_address() -> None:
    dns, other = Dns("10.0.0.1"), EngineAddress.parse("tgi+dns://others.test:3000")
    by_name = EnginesByName([NAME, other], Limits(), Told(), resolve=dns)
    await by_name.look(NAME)
    assert not by_name.are_all_found

    async def found(host: str, port: int) -> Sequence[str]:
        return ["10.0.0.9"]

    one = EnginesByName([NAME, NAME, other], Limits(), Told(), resolve=found)
    await one.look(NAME)
    await one.look(other)
    assert one.are_all_found


@pytest.mark.parametrize("outage", [OSError("no such host"), ()])
async def test_a_name_that_does_not_resolve_keeps_its_engines(outage: OSError | tuple[()]) -> None:
    told, dns = Told(), Dns("10.0.0.1")
    by_name = EnginesByName([NAME], Limits(), told, resolve=dns)
    await by_name.look(NAME)
    dns.ips = outage
    for _ in range(2 * names.MISSED_MAX):
        await by_name.look(NAME)
    assert len(told.engines) == 1


async def test_the_system_resolves_names() -> None:
    assert "127.0.0.1" in await names.resolve("localhost", 3000)
    with pytest.raises(OSError, match=r"\w"):
        await names.resolve("no-such-host.invalid", 3000)


async def test_models_are_those_of_the_engines_that_are_or_were_lately_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = FakeEngine("a", models=["one"]), FakeEngine("b", models=["two"])
    served = ServedModels([first])
    await served.refresh()
    assert await served.ids() == ("one",)
    served.set_engines([second])
    await served.refresh()
    assert await served.ids() == ("two", "one"), "it may come back"
    monkeypatch.setattr(lately, "LATELY_SECONDS", -1.0)
    assert await served.ids() == ("two",)
    assert first.closed.is_set()
    await served.close()
    assert second.closed.is_set()


async def test_a_model_that_an_engine_has_given_up_is_offered_a_little_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = FakeEngine("a", models=["one", "two"])
    served = ServedModels([engine])
    await served.refresh()
    engine.served = ("two", "three")
    await served.refresh()
    assert await served.ids() == ("two", "three", "one")
    monkeypatch.setattr(lately, "LATELY_SECONDS", -1.0)
    assert await served.ids() == ("two", "three")
    await served.close()


async def test_any_model_may_come_while_an_engine_has_not_said_what_it_serves() -> None:
    starting = FakeEngine("b", models=["two"])
    starting.unreachable = True
    aliases = {"say-one": "one", "say-two": "two"}
    served = ServedModels([FakeEngine("a", models=["one"]), starting], aliases)
    assert await served.may_serve("one"), "nothing is known yet"
    await served.refresh()
    assert await served.ids() == ("one", "say-one")
    assert all([await served.may_serve(each) for each in ("one", "two", "say-two", "none")])
    starting.unreachable = False
    await served.refresh()
    names = ("one", "two", "say-one", "say-two", "none")
    assert [await served.may_serve(each) for each in names] == [True] * 4 + [False]
    starting.unreachable = True
    await served.refresh()
    assert await served.may_serve("two"), "it is away, and may come back"
    assert not await served.may_serve("none")
    await served.close()


async def test_any_model_may_come_while_a_name_has_no_address_yet() -> None:
    served = ServedModels([FakeEngine("a", models=["one"])], whole=False)
    await served.refresh()
    assert await served.may_serve("two")
    served.set_engines([FakeEngine("a", models=["one"])])
    assert not await served.may_serve("two")
    await served.close()


async def test_an_alias_is_offered_while_its_model_is_served() -> None:
    served = ServedModels([FakeEngine("a", models=["one"])], {"say-one": "one", "say-two": "two"})
    await served.refresh()
    assert await served.ids() == ("one", "say-one")
    await served.close()


async def test_an_engine_behind_a_name_is_spoken_to() -> None:
    async with ReplayServer() as server:
        name = EngineAddress.parse(server.url.replace("http://127.0.0.1", "tgi+dns://localhost"))
        served = ServedModels([])

        async def local(_: str, port: int) -> Sequence[str]:
            found = await names.resolve("localhost", port)
            return [ip for ip in found if ip == "127.0.0.1"]

        await EnginesByName([name], Limits(), served.set_engines, resolve=local).look(name)
        await served.refresh()
        assert await served.ids()
        await served.close()
