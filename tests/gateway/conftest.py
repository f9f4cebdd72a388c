"""A gateway over fakes, and somebody who calls it."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.gateway.fakes import OTHER_KEY, Bench, calling, served


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with served() as bench:
        yield bench


@pytest.fixture
async def http(bench: Bench) -> AsyncIterator[httpx2.AsyncClient]:
    async with calling(bench) as client:
        yield client


@pytest.fixture
async def stranger(bench: Bench) -> AsyncIterator[httpx2.AsyncClient]:
    """Somebody of another tenant."""
    async with calling(bench, OTHER_KEY) as client:
        yield client
