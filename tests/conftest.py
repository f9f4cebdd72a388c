"""What every test can ask for. The fixtures themselves are modules in `tests/fixtures/`."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
pytest_plugins = ["tests.fixtures.servers", "tests.fixtures.spans"]

# Tests say what they set; what the person's shell sets for their own installation is not meant.
for name in [
    name for name in os.environ if name.startswith("THALWEG_") and name != "THALWEG_CACHE"
]:
    del os.environ[name]

# How long an example takes is the machine's doing. Said here, before any room's `@given` is read.
settings.register_profile("thalweg", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("thalweg")

SLOW_ROOMS = ("contracts", "system", "faults", "bench", "local_engine", "demo_model")
SERVERS = "unstarted_servers"  # the fixture below every other one that starts a server
ROOMS_OF_ONE_SYSTEM = ("system", "faults")
"""Their files share a running Thalweg, which stays to the end and costs the others time: last.
Where tests run side by side, one process runs all of a room: there are no more Thalwegs then."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: needs servers or long; not part of `make check`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for a server, or lives in a room of whole systems, is slow without saying so."""
    for item in items:
        room = room_of(item)
        if room in SLOW_ROOMS or SERVERS in getattr(item, "fixturenames", ()):
            item.add_marker("slow")
        if room in ROOMS_OF_ONE_SYSTEM:
            item.add_marker(pytest.mark.xdist_group(room))
    items.sort(key=how_late)


def room_of(item: pytest.Item) -> str:
    return item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""


def how_late(item: pytest.Item) -> int:
    room = room_of(item)
    return ROOMS_OF_ONE_SYSTEM.index(room) + 1 if room in ROOMS_OF_ONE_SYSTEM else 0
