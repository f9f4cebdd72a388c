"""What every test can ask for. The fixtures themselves are modules in `tests/fixtures/`."""

import os
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

HERE = Path(__file__).parent
pytest_plugins = ["tests.fixtures.servers", "tests.fixtures.spans"]

# Tests say what they set; what the person's shell sets for their own installation is not meant.
for name in [
    name for name in os.environ if name.startswith("THALWEG_") and name != "THALWEG_CACHE"
]:
    del os.environ[name]

SLOW_ROOMS = ("contracts", "system", "faults", "bench", "local_engine", "demo_model")
SERVERS = "unstarted_servers"  # the fixture below every other one that starts a server
ROOMS_OF_ONE_SYSTEM = ("faults", "system")
"""Their files share a running Thalweg, so one process runs them all; and they take the longest, so
they begin first."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: needs servers or long; not part of `make check`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for a server, or lives in a room of whole systems, is slow without saying so."""
    for item in items:
        room = room_of(item)
        if room in SLOW_ROOMS or SERVERS in getattr(item, "fixturenames", ()):
            item.add_marker("slow")
    items.sort(key=how_late)


class RoomByRoom(LoadScopeScheduling):
    """Tests of one file stay in one process, in their order; and so do whole rooms of systems."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        room = file.removeprefix("tests/").partition("/")[0]
        return room if room in ROOMS_OF_ONE_SYSTEM else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> RoomByRoom:
    return RoomByRoom(config, log)


def room_of(item: pytest.Item) -> str:
    return item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""


def how_late(item: pytest.Item) -> int:
    room = room_of(item)
    if room in ROOMS_OF_ONE_SYSTEM:
        return ROOMS_OF_ONE_SYSTEM.index(room)
    return len(ROOMS_OF_ONE_SYSTEM) + (item.get_closest_marker("slow") is None)
