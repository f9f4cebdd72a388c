"""What every test can ask for. The fixtures themselves are modules in `tests/fixtures/`."""

import os
from pathlib import Path

import pytest

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


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for a server, or lives in a room of whole systems, is slow without saying so.

    The tests of one file stay in one process and in their order, where several processes run them.
    """
    for item in items:
        room = room_of(item)
        if room in SLOW_ROOMS or SERVERS in getattr(item, "fixturenames", ()):
            item.add_marker("slow")
        together = room if room in ROOMS_OF_ONE_SYSTEM else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(together))
    items.sort(key=how_late)


def room_of(item: pytest.Item) -> str:
    return item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""


def how_late(item: pytest.Item) -> int:
    room = room_of(item)
    if room in ROOMS_OF_ONE_SYSTEM:
        return ROOMS_OF_ONE_SYSTEM.index(room)
    return len(ROOMS_OF_ONE_SYSTEM) + (item.get_closest_marker("slow") is None)
