"""A reading over HTTP of the log on Postgres, while Postgres is killed."""

import asyncio
from contextlib import suppress
from typing import Any

import httpx2
import orjson
import pytest

from infra.servers.postgres import PostgresServer
from tests.contracts.event_log.logs import Bench
from tests.gateway.fakes import TENANT, calling, served, with_limits

pytestmark = pytest.mark.slow
SECONDS_MAX = 60


async def lines_of(http: httpx2.AsyncClient, first: int) -> list[Any]:
    response = await http.get("/api/events", params={"from": first})
    assert response.status_code == 200, response.text
    return [orjson.loads(line) for line in response.content.splitlines() if line]


async def test_a_follower_is_told_that_postgres_went_away_and_goes_on_when_it_is_back(
    postgres: Bench, postgres_server: PostgresServer
) -> None:
    seen: list[int] = []
    async with (
        served(with_limits(log_follow_poll_seconds=0.01)) as gateway,
        calling(gateway) as http,
    ):
        gateway.logs["conversations"] = postgres.log
        for _ in range(30):
            await postgres.happened(tenant=TENANT.tenant)
        async with http.stream("GET", "/api/events", params={"follow": "true"}) as response:
            lines = response.aiter_lines()
            seen += [int(orjson.loads(await anext(lines))["logposition"]) for _ in range(60)]
            await asyncio.to_thread(postgres_server.kill)
            try:
                rest = [orjson.loads(line) async for line in lines if line]
                refused = await http.get("/api/events")
            finally:
                await asyncio.to_thread(postgres_server.start)
        assert len(rest) == 1
        last = rest[0]
        assert last["type"] == "thalweg.reading.broken"
        assert last["data"]["problem"]["code"] == "store_unavailable"
        assert last["data"]["next"] == seen[-1] + 1
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                with suppress(AssertionError):
                    assert (await http.get("/api/events", params={"limit": 1})).status_code == 200
                    break
        await postgres.happened(tenant=TENANT.tenant)
        again = await lines_of(http, last["data"]["next"])
        seen += [int(line["logposition"]) for line in again[:-1]]
    assert len(seen) == 62
    assert seen == sorted(set(seen))
