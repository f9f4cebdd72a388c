"""Two whole installations for all system tests, side by side: one as a user has it at first, with
its own local engine and demo model, and one with an engine whose answers can be told in advance."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.fixtures.numbered_process import NumberedEngine
from tests.fixtures.thalweg import RunningThalweg


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NumberedEngine]:
    running = NumberedEngine(tmp_path_factory.mktemp("engine"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def thalweg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningThalweg]:
    """As `make run` starts it: the local engine, the demo model."""
    with RunningThalweg(tmp_path_factory.mktemp("system")) as running:
        yield running


@pytest.fixture(scope="session")
def numbered(
    tmp_path_factory: pytest.TempPathFactory, engine: NumberedEngine
) -> Iterator[RunningThalweg]:
    """With the numbered engine."""
    home = tmp_path_factory.mktemp("numbered")
    with RunningThalweg(home, engines=f"tgi+http://{engine.address}") as running:
        yield running


CLIENT_SECONDS_MAX = 120
"""Between two bytes: beside other whole systems an answer may begin late."""


def client(thalweg: RunningThalweg, key: str | None = None) -> httpx2.Client:
    """An HTTP client with a key, else with the first one. Close it."""
    headers = {"Authorization": f"Bearer {key or thalweg.api_key}"}
    return httpx2.Client(base_url=thalweg.url, headers=headers, timeout=CLIENT_SECONDS_MAX)
