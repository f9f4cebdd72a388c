"""Declared repeats at the door: what joins, what was delivered, and what leaves nothing to join."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx2
import pytest

from commands.errors import StoreUnavailable
from events.conversations import EndKind
from gateway.limits import GatewayLimits
from gateway.repeats import Repeats
from gateway.server import ServerLimits
from infra.event_store.memory import MemoryStore
from tests.gateway.fakes import (
    API_KEY,
    MODEL,
    OTHER_KEY,
    TENANT,
    Bench,
    begun,
    calling,
    served,
    spoken,
    until,
    with_limits,
)

ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
PATH = "/v1/chat/completions"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Nobody stays long enough for that alone to say that a response was delivered."""
    limits = with_limits(settle_delay_seconds=0.01)
    async with served(limits, ServerLimits(delivered_stay_seconds=3_600)) as bench:
        yield bench


@pytest.fixture
async def hasty() -> AsyncIterator[Bench]:
    """Whoever stays for a moment has read what it was sent."""
    limits = with_limits(settle_delay_seconds=0.01)
    async with served(limits, ServerLimits(delivered_stay_seconds=0.05)) as bench:
        yield bench


def count(number: object) -> dict[str, str]:
    return {"x-stainless-retry-count": str(number)}


async def send(bench: Bench, number: object = 0, **more: Any) -> httpx2.Response:
    """On a connection of its own, which ends at once: whether it was delivered is not known."""
    async with calling(bench) as http:
        return await http.post(PATH, json={**ASKED, **more}, headers=count(number))


async def lost(bench: Bench, number: object = 0, **more: Any) -> None:
    """A send whose response never reaches the client."""
    writer = await lost_without_a_word(bench, number, **more)
    writer.transport.abort()


async def lost_without_a_word(
    bench: Bench, number: object = 0, **more: Any
) -> asyncio.StreamWriter:
    """A send whose client goes on to exist, but reads nothing."""
    body = json.dumps({**ASKED, **more}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(
        f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {API_KEY}\r\n"
        f"x-stainless-retry-count: {number}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        + body
    )
    stored, reading = bench.events_stored(), len(bench.streams.refs)
    await until(lambda: bench.events_stored() > stored or len(bench.streams.refs) > reading)
    return writer


def turns(bench: Bench) -> int:
    return len(bench.store.recorder.commands)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_repeat_gets_the_whole_answer_of_the_turn_that_was_lost(
    bench: Bench, stream: bool
) -> None:
    bench.streams.script = begun("Hel")
    await lost(bench, stream=stream)
    await until(lambda: bench.streams.reading == 0)
    first = bench.streams.refs[0]
    bench.streams.say(first.answer, *spoken("Hel", "lo")[1:])
    answered = await send(bench, 1, stream=stream)
    assert answered.headers["location"] == f"/api/answers/{first.answer}/stream"
    assert turns(bench) == 1
    again = await send(bench, 2, stream=stream)
    assert again.content == answered.content  # the same bytes, from the first token on
    assert ('"content":"lo"' if stream else '"Hello"') in answered.text.replace('": "', '":"')
    assert turns(bench) == 1


async def test_a_repeat_while_the_answer_is_being_given_reads_it_from_the_beginning(
    bench: Bench,
) -> None:
    bench.streams.script = begun("Hel")
    await lost(bench, stream=True)
    answer = bench.streams.refs[0].answer
    repeating = asyncio.create_task(send(bench, 1, stream=True))
    await until(lambda: len(bench.streams.refs) == 2)
    bench.streams.say(answer, *spoken("Hel", "lo")[1:])
    assert [line.count('"content":"Hel"') for line in (await repeating).text.split("\n\n")][1] == 1
    assert turns(bench) == 1


async def test_thirty_two_equal_first_sends_are_thirty_two_turns(bench: Bench) -> None:
    headers = {"Authorization": f"Bearer {API_KEY}", "Connection": "close"}

    async with httpx2.AsyncClient(base_url=bench.url, headers=headers, timeout=60) as http:

        async def one(number: int) -> httpx2.Response:
            return await http.post(PATH, json=ASKED, headers=count(number))

        answered = await asyncio.gather(*(one(0) for _ in range(32)))
        assert len({one.json()["id"] for one in answered}) == 32
        repeats = await asyncio.gather(*(one(1) for _ in range(32)))
    assert {one.json()["id"] for one in repeats} == {one.json()["id"] for one in answered}
    assert turns(bench) == 32


async def test_a_client_without_a_count_begins_turns_that_can_be_joined(bench: Bench) -> None:
    async with calling(bench) as http:
        first = await http.post(PATH, json=ASKED)
        second = await http.post(PATH, json=ASKED)
    assert first.json()["id"] != second.json()["id"]
    assert (await send(bench, 1)).json()["id"] == second.json()["id"]


@pytest.mark.parametrize("stream", [True, False])
async def test_what_was_delivered_is_not_joined(bench: Bench, stream: bool) -> None:
    """Who asks for something else on the connection has read what came before."""
    async with calling(bench) as http:
        body = {**ASKED, "stream": stream}
        first = await http.post(PATH, json=body, headers=count(0))
        again = await http.post(PATH, json=body, headers=count(1))
    assert first.headers["location"] != again.headers["location"]
    assert turns(bench) == 2


async def test_a_client_that_stays_has_read_it(hasty: Bench) -> None:
    async with calling(hasty) as http:
        await http.post(PATH, json=ASKED, headers=count(0))
        await until(lambda: not hasty.store.turns)
        await http.post(PATH, json=ASKED, headers=count(1))
    assert turns(hasty) == 2


async def test_a_stream_that_took_a_while_may_be_left_at_its_end(hasty: Bench) -> None:
    hasty.streams.script = begun("Hel")
    hasty.streams.keepalive_seconds = 0.06  # after its first sign of life enough time has passed
    asking = asyncio.create_task(send(hasty, stream=True))
    await until(lambda: hasty.streams.idles)
    hasty.streams.say(hasty.streams.refs[0].answer, *spoken("Hel", "lo")[1:])
    await asking
    await until(lambda: not hasty.store.turns)


async def test_a_client_that_takes_nothing_has_read_nothing(hasty: Bench) -> None:
    """Its host acknowledges no byte of a response that is larger than what lies in buffers."""
    hasty.streams.script = spoken("x" * 8_000_000)
    writer = await lost_without_a_word(hasty)
    await until(lambda: hasty.streams.reading == 0)
    again = await send(hasty, 1)
    assert turns(hasty) == 1
    assert len(again.json()["choices"][0]["message"]["content"]) == 8_000_000
    writer.transport.abort()


async def test_another_key_or_body_joins_nothing(bench: Bench) -> None:
    await send(bench)
    await send(bench, 1, seed=1)
    assert turns(bench) == 2
    async with calling(bench, OTHER_KEY) as http:
        await http.post(PATH, json=ASKED, headers=count(1))
    assert turns(bench) == 3


async def test_the_order_of_fields_makes_no_other_body(bench: Bench) -> None:
    first = await send(bench, seed=1, user="ann")
    async with calling(bench) as http:
        body = dict(reversed({**ASKED, "seed": 1, "user": "ann"}.items()))
        again = await http.post(PATH, json=body, headers=count(1))
    assert again.json() == first.json()


@pytest.mark.parametrize("number", ["-1", "one", "1.5", "", "10000", "٣"])
async def test_a_count_that_is_none_is_no_repeat(bench: Bench, number: str) -> None:
    await send(bench)
    async with calling(bench) as http:
        headers = [(b"x-stainless-retry-count", number.encode())]
        assert (await http.post(PATH, json=ASKED, headers=headers)).status_code == 200
        twice = [*count(1).items(), *count(1).items()]
        assert (await http.post(PATH, json=ASKED, headers=twice)).status_code == 200
    assert turns(bench) == 3


async def test_an_idempotency_key_comes_before_a_count(bench: Bench) -> None:
    await send(bench)
    async with calling(bench) as http:
        headers = {**count(1), "Idempotency-Key": "one"}
        await http.post(PATH, json=ASKED, headers=headers)
    assert turns(bench) == 2
    assert len(bench.store.turns) == 1  # a keyed call is found by its key alone


async def test_a_refusal_leaves_nothing_to_join(bench: Bench) -> None:
    bench.counts.fixed = {TENANT.tenant: 10_000}
    assert (await send(bench)).status_code == 429
    bench.counts.fixed = None
    bench.desk.admission._counted_at = float("-inf")
    assert (await send(bench, 1)).status_code == 200
    assert turns(bench) == 1


async def test_a_repeat_joins_its_turn_although_there_is_no_room_for_a_new_one(
    bench: Bench,
) -> None:
    first = await send(bench)
    bench.counts.fixed = {TENANT.tenant: 10_000}
    bench.desk.admission._counted_at = float("-inf")
    assert (await send(bench, 1)).json() == first.json()
    assert (await send(bench, 1)).status_code == 429
    assert turns(bench) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_failed_answer_is_asked_for_anew(bench: Bench, stream: bool) -> None:
    bench.streams.script = spoken("Hel", kind=EndKind.FAIL, reason="engine", error="It broke.")
    failed = await send(bench, stream=stream)
    assert "It broke." in failed.text
    assert failed.status_code == (200 if stream else 502)
    bench.streams.script = spoken("Hello")
    assert "Hello" in (await send(bench, 1, stream=stream)).text
    assert turns(bench) == 2


async def test_a_stream_that_could_not_be_read_on_can_be_joined(bench: Bench) -> None:
    bench.streams.unavailable_after = 0
    broken = await send(bench, stream=True)
    assert "answer_stream_unavailable" in broken.text
    bench.streams.unavailable_after = None
    again = await send(bench, 1, stream=True)
    assert again.headers["location"] == broken.headers["location"]
    assert "[DONE]" in again.text


class AwayStore(MemoryStore):
    """Can't be told anything while it is away, and is told slowly if it is made to."""

    away = True

    def __init__(self) -> None:
        super().__init__()
        self.told: list[list[str]] = []
        self.swift = asyncio.Event()
        self.swift.set()

    async def settle(self, turns: Any) -> None:
        self.told.append([command for _, command in turns])
        await self.swift.wait()
        if self.away:
            raise StoreUnavailable("connection refused")
        await super().settle(turns)

    async def sweep_turns(self) -> int:
        return 0


def turn(number: int) -> tuple[UUID, str]:
    return TENANT.tenant, f"call:{number}"


async def test_deliveries_are_kept_while_the_store_is_away_the_newest_of_them() -> None:
    store = AwayStore()
    repeats = Repeats(store, GatewayLimits(settled_turns_max=2, settle_delay_seconds=60))
    for number in range(5):
        repeats.delivered(turn(number))
    await repeats.flush()
    repeats.delivered(turn(5))
    await repeats.flush()
    store.away = False
    await repeats.settle(turn(6))
    assert store.told == [["call:3", "call:4"], ["call:4", "call:5"], ["call:5", "call:6"]]
    await repeats.close()
    assert len(store.told) == 3


async def test_the_store_is_told_again_when_it_was_away() -> None:
    store = AwayStore()
    repeats = Repeats(store, GatewayLimits(settle_delay_seconds=0.01))
    repeats.delivered(turn(1))
    await until(lambda: store.told)
    store.away = False
    told = len(store.told)
    await until(lambda: len(store.told) > told)
    await repeats.close()
    assert store.told[-1] == ["call:1"]


async def test_who_asks_meanwhile_waits_for_what_is_being_told() -> None:
    store = AwayStore()
    store.away = False
    store.swift.clear()
    repeats = Repeats(store, GatewayLimits(settle_delay_seconds=60))
    repeats.delivered(turn(1))
    first = asyncio.create_task(repeats.flush())
    await until(lambda: store.told)
    repeats.delivered(turn(2))
    others = [asyncio.create_task(repeats.flush()) for _ in range(10)]
    await asyncio.sleep(0)
    assert not any(one.done() for one in others)
    store.swift.set()
    await asyncio.gather(first, *others)
    assert store.told == [["call:1"], ["call:2"]]
    await repeats.close()


async def test_those_who_wait_for_a_store_that_is_away_share_one_more_try() -> None:
    store = AwayStore()
    store.swift.clear()
    repeats = Repeats(store, GatewayLimits(settle_delay_seconds=60))
    repeats.delivered(turn(1))
    waiting = [asyncio.create_task(repeats.flush()) for _ in range(10)]
    await until(lambda: store.told)
    store.swift.set()
    await asyncio.gather(*waiting)
    assert store.told == [["call:1"], ["call:1"]]
    await repeats.close()


async def test_an_orderly_stop_tells_what_was_delivered() -> None:
    store = MemoryStore()
    limits = with_limits(settle_delay_seconds=3_600)
    async with served(limits, ServerLimits(delivered_stay_seconds=0.05), store) as bench:
        async with calling(bench) as http:
            await http.post(PATH, json=ASKED, headers=count(0))
            await until(lambda: bench.desk.repeats._settled)
        assert store.turns
    assert not store.turns


async def test_old_turns_are_swept_while_new_ones_come() -> None:
    store = MemoryStore(repeat_seconds_max=0)
    limits = with_limits(settle_delay_seconds=0.01, turns_sweep_seconds=0)
    async with served(limits, store=store) as bench:
        await send(bench)
        await until(lambda: not store.turns)
