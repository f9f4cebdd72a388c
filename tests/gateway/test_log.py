"""The log as auditors read it: whole lines, each a CloudEvent; the last one says the rest."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import orjson
import pytest

from commands.errors import StoreUnavailable
from commands.store import Append
from events.conversations import ConversationRenamed, ConversationStarted
from events.envelope import Event, Meta, Recorded
from events.ids import ConversationId, fresh_id
from gateway.log.ports import EventLog, Logged, Step, Unreadable, Wanted
from infra.event_log import MemoryLog
from tests.gateway.fakes import OTHER_TENANT, TENANT, Bench, calling, served, until, with_limits

STARTED, RENAMED = ConversationStarted.TYPE, ConversationRenamed.TYPE
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


async def happened(
    bench: Bench, *, titles: int = 2, tenant: UUID = TENANT.tenant, time: datetime = NOON
) -> UUID:
    """A conversation that was renamed some times, a minute after each other."""
    stream = ConversationId(fresh_id())
    events: list[Event] = [ConversationStarted(conversation=stream)]
    events += [ConversationRenamed(conversation=stream, title=f"t{n}") for n in range(titles)]
    recorded = []
    for position, event in enumerate(events, start=1):
        at = time + timedelta(minutes=position)
        meta = Meta(tenant, f"call:{uuid4()}", "a", "s", at, fresh_id())
        recorded.append(Recorded(fresh_id(), stream, position, meta, event))
    await bench.store.append(Append(tenant, recorded[0].meta.command, b"", stream, recorded))
    return stream


async def lines_of(http: httpx2.AsyncClient, path: str = "/api/events", **asked: Any) -> list[Any]:
    response = await http.get(path, params=asked)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.content.endswith(b"\n")
    return [orjson.loads(line) for line in response.content.splitlines() if line]


def places(lines: Sequence[Any]) -> list[int]:
    return [int(line["logposition"]) for line in lines if "sequence" in line]


async def test_each_line_is_a_cloudevent_and_the_last_one_says_where_to_go_on(
    bench: Bench, http: httpx2.AsyncClient
) -> None:
    stream = await happened(bench)
    lines = await lines_of(http)
    first, last = lines[0], lines[-1]
    assert {
        key: first[key] for key in ("specversion", "type", "source", "subject", "sequence")
    } == {
        "specversion": "1.0",
        "type": STARTED,
        "source": "/thalweg/conversations",
        "subject": str(stream),
        "sequence": "1",
    }
    assert first["data"]["conversation"] == str(stream)
    assert first["tenant"] == str(TENANT.tenant)
    assert datetime.fromisoformat(first["time"]) == NOON + timedelta(minutes=1)
    assert places(lines) == [1, 2, 3]
    assert last["type"] == "thalweg.reading.ended"
    assert last["data"] == {"reason": "end", "next": 4}


async def test_a_reading_goes_on_exactly_where_another_ended(
    bench: Bench, http: httpx2.AsyncClient
) -> None:
    for _ in range(4):
        await happened(bench)
        await happened(bench, tenant=OTHER_TENANT.tenant)
    whole = places(await lines_of(http))
    assert len(whole) == 12
    read: list[int] = []
    first = 1
    while True:
        lines = await lines_of(http, **{"from": first, "limit": 5})
        read += places(lines)
        end = lines[-1]["data"]
        first = end["next"]
        if end["reason"] == "end":
            break
        assert end["reason"] == "limit"
        assert places(lines)[-1] + 1 == first
    assert read == whole


async def test_a_key_reads_its_own_tenant_only(
    bench: Bench, http: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    mine = await happened(bench)
    theirs = await happened(bench, tenant=OTHER_TENANT.tenant)
    assert {line["subject"] for line in (await lines_of(http))[:-1]} == {str(mine)}
    assert {line["subject"] for line in (await lines_of(stranger))[:-1]} == {str(theirs)}
    assert places(await lines_of(http, stream=str(theirs))) == []
    assert places(await lines_of(http, tenant=str(TENANT.tenant))) == [1, 2, 3]
    for tenant in (OTHER_TENANT.tenant, uuid4()):
        refused = await http.get("/api/events", params={"tenant": str(tenant)})
        assert refused.status_code == 403
        assert refused.json()["code"] == "other_tenant"
    assert (await http.get(f"/api/streams/{theirs}")).status_code == 404
    assert (await http.get(f"/api/streams/{uuid4()}")).status_code == 404


async def test_events_are_chosen_by_stream_type_and_time(
    bench: Bench, http: httpx2.AsyncClient
) -> None:
    await happened(bench)
    second = await happened(bench, time=NOON + timedelta(hours=1))
    assert places(await lines_of(http, stream=str(second))) == [4, 5, 6]
    assert places(await lines_of(http, type=STARTED)) == [1, 4]
    assert places(await lines_of(http, type=[STARTED, RENAMED])) == [1, 2, 3, 4, 5, 6]
    since = (NOON + timedelta(minutes=2)).isoformat()
    until_ = (NOON + timedelta(minutes=61)).isoformat()
    assert places(await lines_of(http, since=since, until=until_)) == [2, 3]
    lines = await lines_of(http, until=since)
    assert places(lines) == [1]
    assert lines[-1]["data"]["reason"] == "until"


async def test_one_stream_is_read_by_its_positions(bench: Bench, http: httpx2.AsyncClient) -> None:
    await happened(bench)
    stream = await happened(bench, titles=4)
    path = f"/api/streams/{stream}"
    lines = await lines_of(http, path)
    assert [line["sequence"] for line in lines[:-1]] == ["1", "2", "3", "4", "5"]
    assert lines[-1]["data"] == {"reason": "end", "next": 6}
    lines = await lines_of(http, path, **{"from": 2, "limit": 2})
    assert [line["sequence"] for line in lines[:-1]] == ["2", "3"]
    assert lines[-1]["data"] == {"reason": "limit", "next": 4}
    assert (await lines_of(http, path, **{"from": 6}))[-1]["data"] == {"reason": "end", "next": 6}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"from": "x"}, "from"),
        ({"from": "0"}, "from"),
        ({"from": "99"}, "from"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1000001"}, "limit"),
        ({"stream": "x"}, "stream"),
        ({"tenant": "x"}, "tenant"),
        ({"type": "thalweg.x"}, "type"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-11-27T06:30:00"}, "until"),
        ({"since": "2026-11-27T06:30:00Z", "until": "2026-11-27T06:30:00Z"}, "since"),
        ({"follow": "yes"}, "follow"),
        ({"context": "files"}, "context"),
        ({"stream": [str(uuid4()), str(uuid4())]}, "stream"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_parameter_is_refused_by_its_name(
    http: httpx2.AsyncClient, asked: dict[str, Any], param: str
) -> None:
    response = await http.get("/api/events", params=asked)
    assert response.status_code == 400
    assert response.json()["param"] == param
    assert (await http.get("/api/events", headers={"authorization": "x"})).status_code == 401


async def test_the_log_of_accounts_is_another_one(bench: Bench, http: httpx2.AsyncClient) -> None:
    await happened(bench)
    assert places(await lines_of(http, context="accounts")) == []


@asynccontextmanager
async def following(http: httpx2.AsyncClient, **asked: Any) -> AsyncIterator[AsyncIterator[str]]:
    async with http.stream("GET", "/api/events", params={"follow": "true", **asked}) as response:
        assert response.status_code == 200
        yield response.aiter_lines()


async def test_a_follower_sees_what_is_committed_later_once_each(
    bench: Bench, http: httpx2.AsyncClient
) -> None:
    await happened(bench)
    seen: list[int] = []
    async with following(http) as lines:
        async for line in lines:
            seen.append(int(orjson.loads(line)["logposition"]))
            if seen[-1] in (3, 6):
                await happened(bench)
            if seen[-1] == 9:
                break
    assert seen == list(range(1, 10))


async def test_a_silent_follower_gets_empty_lines(bench: Bench) -> None:
    async with (
        served(with_limits(keepalive_seconds=0.01, log_follow_poll_seconds=0.01)) as quiet,
        calling(quiet) as http,
        following(http) as lines,
    ):
        assert [await anext(lines) for _ in range(3)] == ["", "", ""]
        await happened(quiet)
        async for line in lines:
            if line:
                assert orjson.loads(line)["type"] == STARTED
                break


async def test_a_follower_is_told_where_to_go_on_when_the_gateway_stops(
    bench: Bench, http: httpx2.AsyncClient
) -> None:
    await happened(bench)
    async with following(http) as lines:
        seen = [orjson.loads(await anext(lines)) for _ in range(3)]
        bench.stopping.set()
        last = orjson.loads([line async for line in lines if line][-1])
    assert places(seen) == [1, 2, 3]
    assert last["data"] == {"reason": "draining", "next": 4}


async def test_a_follower_whose_key_is_revoked_is_shown_out() -> None:
    async with (
        served(with_limits(key_cache_seconds=0.01, log_follow_poll_seconds=0.01)) as bench,
        calling(bench) as http,
        following(http) as lines,
    ):
        await happened(bench)
        assert orjson.loads(await anext(lines))["type"] == STARTED
        bench.keys.callers.clear()
        last = orjson.loads([line async for line in lines if line][-1])
    assert last["type"] == "thalweg.reading.broken"
    assert last["data"]["problem"]["code"] == "invalid_api_key"


async def test_a_reading_ends_at_its_bounds_and_says_which() -> None:
    async with served(with_limits(log_bytes_max=1, log_events_per_write=2)) as bench:
        await happened(bench, titles=9)
        async with calling(bench) as http:
            lines = await lines_of(http)
    assert places(lines) == [1, 2]
    assert lines[-1]["data"] == {"reason": "bytes", "next": 3}
    async with served(with_limits(log_seconds_max=0)) as bench:
        bench.logs["conversations"] = MemoryLog(bench.store, scanned_max=2)
        await happened(bench, tenant=OTHER_TENANT.tenant)
        async with calling(bench) as http:
            lines = await lines_of(http)
    assert lines[-1]["data"] == {"reason": "seconds", "next": 3}
    async with served(with_limits(log_follow_seconds_max=0)) as bench, calling(bench) as http:
        assert (await lines_of(http, follow="true"))[-1]["data"]["reason"] == "seconds"


async def test_what_an_earlier_request_has_seen_may_be_named_as_in_every_read(
    bench: Bench, http: httpx2.AsyncClient
) -> None:
    await happened(bench)
    stream = bench.all_events()[0].stream
    after = [f"{stream}:1", "conversations.AQ"]
    for path in ("/api/events", f"/api/streams/{stream}"):
        assert (await http.get(path, params={"after": after})).status_code == 200
        refused = await http.get(path, params={"after": "now"})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")


async def test_one_tenant_leaves_places_to_others(
    http: httpx2.AsyncClient, stranger: httpx2.AsyncClient, bench: Bench
) -> None:
    await happened(bench)
    async with AsyncExitStack() as stack:
        followers = [
            await stack.enter_async_context(following(http))
            for _ in range(bench.desk.limits.log_readers_per_tenant_max)
        ]
        for lines in followers:
            await anext(lines)
        refused = await http.get("/api/events")
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_readers")
        assert refused.json()["of"] == "tenant"
        assert (await stranger.get("/api/events")).status_code == 200


async def test_only_so_many_read_at_once() -> None:
    async with served(with_limits(log_readers_max=1)) as bench, calling(bench) as http:
        await happened(bench)
        async with following(http) as lines:
            await anext(lines)
            refused = await http.get("/api/events")
            assert refused.status_code == 503
            assert (refused.json()["code"], refused.json()["of"]) == ("too_many_readers", "gateway")
            assert "retry-after" in refused.headers
        await until(lambda: len(bench.desk.open_streams) == 0)
        assert places(await lines_of(http)) == [1, 2, 3]


class Failing:
    """A log that works for one step, and then fails."""

    def __init__(self, log: EventLog, error: Exception) -> None:
        self._log, self._error = log, error
        self._steps = 0

    async def end(self) -> int:
        return await self._log.end()

    async def before(self, time: datetime) -> int:
        return await self._log.before(time)

    async def tenant_of(self, stream: UUID) -> UUID | None:
        return await self._log.tenant_of(stream)

    async def read(self, wanted: Wanted, after: int, *, events_max: int) -> Step:
        self._steps += 1
        if self._steps > 1:
            raise self._error
        found: Sequence[Logged] = (await self._log.read(wanted, after, events_max=2)).found
        return Step(found, found[-1].place, False)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (StoreUnavailable("Postgres can't be reached"), "store_unavailable", "Postgres"),
        (Unreadable(3), "event_unreadable", "from 4 on"),
        (RuntimeError("secret"), "internal_error", "log"),
    ],
)
async def test_what_breaks_a_reading_is_said_in_its_last_line(
    bench: Bench, http: httpx2.AsyncClient, error: Exception, code: str, told: str
) -> None:
    await happened(bench)
    bench.logs["conversations"] = Failing(bench.log, error)
    lines = await lines_of(http)
    assert places(lines) == [1, 2]
    assert lines[-1]["type"] == "thalweg.reading.broken"
    assert lines[-1]["data"]["next"] == 3
    problem = lines[-1]["data"]["problem"]
    assert problem["code"] == code
    assert told in problem["detail"]
    assert "secret" not in str(problem)
