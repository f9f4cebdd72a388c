"""Two whole installations for all system tests, side by side: one as a user has it at first, with
its own local engine and demo model, and one with an engine whose answers can be told in advance."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from infra.servers.ports import free_port
from tests.fixtures.processes import Process
from tests.fixtures.thalweg import RunningThalweg


class NumberedEngine:
    """An engine that says " 0 1 2..." and counts its calls."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.address = f"127.0.0.1:{port}"

    def calls(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://{self.address}/calls", timeout=5) as response:
            counted: dict[str, Any] = json.load(response)
        return counted


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NumberedEngine]:
    port = free_port()
    log = tmp_path_factory.mktemp("engine") / "engine.log"
    process = Process(log, "-m", "tests.fixtures.numbered_engine", "--port", str(port))
    yield NumberedEngine(process, port)
    process.stop()


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


def client(thalweg: RunningThalweg, key: str | None = None) -> httpx2.Client:
    """An HTTP client with a key, else with the first one. Close it."""
    headers = {"Authorization": f"Bearer {key or thalweg.api_key}"}
    return httpx2.Client(base_url=thalweg.url, headers=headers, timeout=30)
