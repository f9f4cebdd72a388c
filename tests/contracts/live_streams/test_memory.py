"""The fake passes what the real one passes."""

import pytest

from tests.contracts.live_streams.sides import MemoryLiveStreams, Sides
from tests.contracts.live_streams.suite import LiveStreamsContract


class TestMemory(LiveStreamsContract):
    @pytest.fixture
    def sides(self) -> Sides:
        both = MemoryLiveStreams()
        return Sides(both, both, both.flush)
