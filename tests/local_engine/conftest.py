"""A local engine in the test's own event loop, on a free port of this machine."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from infra.local_engine.engine import LocalEngine
from infra.local_engine.main import DEMO_MODEL, running
from infra.local_engine.model import Model

HOST = "127.0.0.1"


@pytest.fixture
async def port() -> AsyncGenerator[int]:
    """The port of a running local engine."""
    async with running(HOST, 0, DEMO_MODEL, concurrent_requests_max=128) as number:
        yield number


@pytest.fixture
async def full_port() -> AsyncGenerator[int]:
    """The port of an engine that has no room for any request."""
    async with running(HOST, 0, DEMO_MODEL, concurrent_requests_max=0) as number:
        yield number


@pytest.fixture(scope="session")
def model() -> Generator[Model]:
    """The demo model, loaded."""
    loaded = Model(Path(DEMO_MODEL))
    yield loaded
    loaded.close()


@pytest.fixture
async def engine(model: Model) -> LocalEngine:
    """The engine without its server."""
    return LocalEngine(model, concurrent_requests_max=128)
