"""A read that waits for a write goes on when the read model has that write, and no sooner."""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from events.ids import fresh_id
from gateway.read_ports import StreamPosition
from infra.read_models.applied import STREAMS, AppliedPositions
from infra.read_models.models import ReadModels
from projections.tables import Tables

CONTEXT = "conversations"
STREAM = fresh_id()
MOMENT_SECONDS = 0.2
SECONDS_MAX = 10.0


class IsAt(ReadModels):
    """A read model that has applied its one stream up to a position."""

    def __init__(self, position: int) -> None:
        self.position = position

    async def read(self, tables: Tables, query: str, values: Any) -> list[tuple[UUID, int]]:
        assert query == STREAMS
        assert isinstance(values, Mapping)
        return [(STREAM, self.position)]


@pytest.mark.parametrize("behind", [1, 2])
async def test_one_event_too_few_is_not_enough(behind: int) -> None:
    position = 7
    model = IsAt(position - behind)
    applied = AppliedPositions(model, Tables("histories", 1), CONTEXT)
    after = [StreamPosition(STREAM, position)]
    assert not await applied.wait(after, seconds_max=MOMENT_SECONDS)
    waiting = asyncio.create_task(applied.wait(after, seconds_max=SECONDS_MAX))
    await asyncio.wait([waiting], timeout=MOMENT_SECONDS)
    assert not waiting.done()
    model.position = position
    assert await waiting
