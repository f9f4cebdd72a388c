"""The official client against the gateway, which is served for real over fakes."""

from collections.abc import AsyncIterator

import openai
import pytest

from gateway.server import ServerLimits
from tests.gateway.fakes import API_KEY, SECONDS_MAX, Bench, served, with_limits


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    server = ServerLimits(delivered_stay_seconds=3_600)  # staying alone says nothing here
    async with served(with_limits(retry_after_seconds=0.05), server) as bench:
        yield bench


@pytest.fixture
async def sdk(bench: Bench) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{bench.url}/v1", api_key=API_KEY, timeout=SECONDS_MAX
    ) as client:
        yield client
