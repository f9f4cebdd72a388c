"""What every request meets: keys, limits on bodies, admission, errors, and health."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import httpx2
import pytest

from commands.store import Append, Receipt
from gateway.ports import HealthReport
from tests.gateway.fakes import (
    API_KEY,
    SECONDS_MAX,
    TENANT,
    Bench,
    calling,
    hashed,
    served,
    until,
    with_limits,
)
from tests.gateway.test_chat import chat
from tests.gateway.test_conversations import post, started
from tests.gateway.test_open_streams import connected


async def eventually(call: Callable[[], Awaitable[httpx2.Response]], status: int) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while (await call()).status_code != status:  # noqa: ASYNC110 (only asking tells)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", "Basic x"])
async def test_without_a_valid_key_nothing_is_done(bench: Bench, authorization: str) -> None:
    async with httpx2.AsyncClient(
        base_url=bench.url, headers={"Authorization": authorization} if authorization else {}
    ) as nobody:
        for method, path in (
            ("POST", "/api/conversations"),
            ("POST", f"/api/conversations/{TENANT.key}/messages"),
            ("GET", f"/api/answers/{TENANT.key}/stream"),
            ("POST", f"/api/answers/{TENANT.key}/cancel"),
            ("POST", "/v1/chat/completions"),
            ("GET", "/v1/models"),
            ("GET", "/v1/models/x"),
        ):
            answered = await nobody.request(method, path)
            assert answered.status_code == 401, path
        refused = await nobody.post("/api/conversations")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["code"] == "invalid_api_key"
    assert bench.events_stored() == 0


async def test_a_key_is_looked_up_once_and_works_until_it_is_forgotten() -> None:
    async with served(with_limits(key_cache_seconds=2)) as bench, calling(bench) as http:
        answered = await asyncio.gather(*(http.get("/v1/models") for _ in range(5)))
        assert {one.status_code for one in answered} == {200}
        assert bench.keys.asked == 1
        del bench.keys.callers[hashed(API_KEY)]
        await eventually(lambda: http.get("/v1/models"), 401)
        bench.keys.callers[hashed(API_KEY)] = TENANT  # no refusal is remembered
        assert (await http.get("/v1/models")).status_code == 200


async def test_what_is_not_there_is_a_problem(http: httpx2.AsyncClient) -> None:
    for path in ("/", "/docs", "/openapi.json", "/api/conversations/"):
        nothing = await http.get(path)
        assert (nothing.status_code, nothing.json()["code"]) == (404, "not_found"), path
    wrong = await http.get("/api/conversations/x/answers")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    assert wrong.headers["content-type"] == "application/problem+json"
    assert "access-control-allow-origin" not in wrong.headers


@pytest.mark.parametrize("path", ["/api/conversations", "/v1/chat/completions"])
async def test_a_bug_is_a_500_without_any_detail(
    bench: Bench,
    http: httpx2.AsyncClient,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr(bench.store, "append", broken)
    if path.startswith("/v1"):
        answered = await chat(http)
        assert answered.json()["error"]["code"] == "internal_error"
    else:
        answered = await http.post(path)
        assert answered.json()["code"] == "internal_error"
    assert answered.status_code == 500
    assert "secret" not in answered.text
    [logged] = [one for one in caplog.records if one.name == "thalweg.gateway"]
    assert logged.__dict__["request"] == answered.headers["x-request-id"]


async def test_a_body_that_is_too_large_is_refused_with_or_without_its_length() -> None:
    async with served(with_limits(body_bytes_max=1_000)) as bench, calling(bench) as http:

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 100

        for content in (b" " * 1_001, endless()):
            answered = await http.post("/api/conversations", content=content)
            assert (answered.status_code, answered.json()["bytes_max"]) == (413, 1_000)


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async with served(with_limits(body_seconds_max=0.05)) as bench:
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        writer.write(
            b"POST /api/conversations HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
            b"Authorization: Bearer %b\r\n\r\n{" % API_KEY.encode()
        )
        answered = await asyncio.wait_for(reader.readuntil(b"}"), SECONDS_MAX)
        writer.close()
        await writer.wait_closed()
    assert b" 408 " in answered.splitlines()[0]


async def test_too_many_open_answers_are_refused_before_anything_is_written() -> None:
    limits = with_limits(
        unanswered_requests_per_tenant_max=2,
        admission_refresh_seconds=0.01,
        retry_after_seconds=0.25,
    )
    async with served(limits) as bench, calling(bench) as http:
        first = await chat(http, {"Idempotency-Key": "1"})  # it has ended, but not in the store
        await post(http, await started(http))
        bench.counts.fixed = {TENANT.tenant: 2}  # as the store has it
        await eventually(lambda: chat(http, seed=1), 429)
        conversation = await started(http)  # asks for no answer
        stored = bench.events_stored()
        refused = await chat(http, {"Idempotency-Key": "2"})
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["retry-after-ms"] == "250"
        native = await post(http, conversation)
        problem = native.json()
        assert (native.status_code, problem["code"]) == (429, "too_many_unanswered")
        assert (problem["of"], problem["unanswered_max"]) == ("tenant", 2)
        # What was accepted stays accepted; a reused key is said to be one.
        again = await chat(http, {"Idempotency-Key": "1"})
        assert (again.status_code, again.content) == (200, first.content)
        assert (await chat(http, {"Idempotency-Key": "1"}, seed=1)).status_code == 422
        assert bench.events_stored() == stored
        bench.counts.fixed = {}
        await eventually(lambda: chat(http), 200)


async def test_the_bound_in_all_counts_every_tenant() -> None:
    async with served(with_limits(unanswered_requests_max=3)) as bench, calling(bench) as http:
        bench.counts.fixed = {TENANT.key: 3}
        refused = await post(http, await started(http))
        assert (refused.status_code, refused.json()["of"]) == (429, "installation")


@pytest.mark.parametrize("of", ["tenant", "installation"])
async def test_waiting_flex_leaves_room_for_what_is_more_urgent(of: str) -> None:
    limits = with_limits(unanswered_requests_per_tenant_max=8, unanswered_requests_max=8)
    async with served(limits) as bench, calling(bench) as http:
        whose = TENANT.tenant if of == "tenant" else TENANT.key
        for unanswered, flex in ((3, 200), (4, 429)):
            bench.counts.fixed = {whose: unanswered}
            await eventually(partial(chat, http, service_tier="flex"), flex)
        refused = (await chat(http, service_tier="flex")).json()["error"]
        assert f"4 answers of this {of} are still open, 4 may be" in refused["message"]
        bench.counts.fixed = {whose: 7}
        for tier in ("default", "priority"):
            assert (await chat(http, service_tier=tier)).status_code == 200


async def test_a_burst_does_not_slip_through_between_two_counts() -> None:
    limits = with_limits(
        unanswered_requests_per_tenant_max=5,
        admission_refresh_seconds=SECONDS_MAX,
        admission_stale_seconds_max=SECONDS_MAX,
    )
    async with served(limits) as bench, calling(bench) as http:
        bench.counts.fixed = {}
        for _ in range(8):  # what was seen ending makes room at once
            assert (await chat(http)).status_code == 200
        answered = [await post(http, await started(http)) for _ in range(8)]
        assert [one.status_code for one in answered] == [202] * 5 + [429] * 3


async def test_what_has_ended_elsewhere_makes_room_with_the_next_count() -> None:
    limits = with_limits(
        unanswered_requests_per_tenant_max=2,
        admission_refresh_seconds=0,
        admission_stale_seconds_max=0,
    )
    async with served(limits) as bench, calling(bench) as http:
        bench.counts.fixed = {}
        answered = [await post(http, await started(http)) for _ in range(6)]
        assert [one.status_code for one in answered] == [202] * 6


async def test_a_crowd_that_comes_at_once_does_not_slip_through() -> None:
    limits = with_limits(
        unanswered_requests_per_tenant_max=5,
        admission_refresh_seconds=0,
        retry_after_seconds=0.01,
    )
    async with served(limits) as bench, calling(bench) as http:
        gate, stored = asyncio.Event(), bench.store.append

        async def slow(append: Append) -> Receipt:
            await gate.wait()
            return await stored(append)

        bench.store.append = slow  # type: ignore[method-assign]  # a database that takes its time
        crowd = [asyncio.create_task(chat(http)) for _ in range(20)]
        await until(lambda: sum(one.done() for one in crowd) == 15)
        for _ in range(3):  # no count has them yet: the store has not stored them
            assert (await chat(http)).status_code == 429
        gate.set()
        statuses = [one.status_code for one in await asyncio.gather(*crowd)]
        assert sorted(statuses) == [200] * 5 + [429] * 15


async def test_a_call_that_fails_makes_room_again(bench: Bench, http: httpx2.AsyncClient) -> None:
    conversation = await started(http)
    for _ in range(3):
        assert (await post(http, conversation, parent=str(TENANT.key))).status_code == 409
    assert bench.desk.admission._since == {}
    assert not bench.desk.admission._unstored


async def test_health_says_what_can_be_done_now(bench: Bench, http: httpx2.AsyncClient) -> None:
    assert (await http.get("/livez")).json() == {"status": "alive"}
    ready = await http.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {
        "commands": "ready",
        "answers": "ready",
        "dependencies": {"postgres": "ready", "kafka": "ready"},
    }
    bench.health.report = HealthReport(True, False, {"postgres": "ready", "kafka": "timed out"})
    without_kafka = await http.get("/readyz")
    assert (without_kafka.status_code, without_kafka.json()["answers"]) == (200, "not ready")
    bench.health.report = HealthReport(False, False, {"postgres": "connection refused"})
    without_postgres = await http.get("/readyz")
    assert (without_postgres.status_code, without_postgres.json()["commands"]) == (503, "not ready")


async def test_a_gateway_that_stops_is_not_ready() -> None:
    async with served(with_limits(drain_seconds_max=SECONDS_MAX)) as bench, calling(bench) as http:
        bench.streams.script = []
        posted = (await post(http, await started(http))).json()
        async with connected(bench, f"/api/answers/{posted['answer']}/stream") as reader:
            await asyncio.wait_for(reader.readuntil(b"retry"), SECONDS_MAX)
            bench.desk.open_streams.drain()
            ready = await http.get("/readyz")
            assert (ready.status_code, ready.json()["commands"]) == (503, "draining")
            await until(lambda: bench.streams.reading == 0)
