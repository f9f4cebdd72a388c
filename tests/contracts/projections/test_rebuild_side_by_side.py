"""A rebuild of a long log: several processes fill it in, and none of them outlives it."""

import asyncio
import signal
import sys
from pathlib import Path

import psycopg
import pytest

from infra.rebuild import rebuild
from infra.rebuild_builder import Progress, shares
from projections.conversations import Histories
from tests.contracts.projections.test_feed import World, becomes, world
from tests.contracts.projections.test_rebuild import filled, names, rebuilt
from tests.fixtures.processes import alive, family

__all__ = ["world"]


class Damaged(Histories):
    """A table of it is gone as soon as it was made."""

    own_tables = Histories.own_tables + "DROP TABLE {main_nodes};"


async def test_a_long_log_is_filled_in_by_several_processes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filled(world):
        told: list[Progress] = []
        alone = await rebuild(world.settings, world.topics, "histories")
        monkeypatch.setattr("infra.rebuild_builder.EVENTS_PER_FILLER_MIN", 10)
        result = await rebuild(world.settings, world.topics, "histories", progress=told.append)
        assert result.equal, result
        assert (result.events, result.mine) == (alone.events, alone.mine)
        assert [one.done for one in told] == sorted(one.done for one in told)
        assert told[-1].done == told[-1].of == result.events
        assert (await rebuilt(world, "histories", switch=True)).switched


async def test_what_ends_one_of_several_processes_ends_the_rebuild(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filled(world):
        monkeypatch.setattr("infra.rebuild_builder.EVENTS_PER_FILLER_MIN", 10)

        monkeypatch.setattr("infra.rebuild.all_projections", lambda: (Damaged(),))
        with pytest.raises(psycopg.errors.UndefinedTable):
            await rebuilt(world, "histories")
        assert "histories@1.2" not in names(world)


def test_partitions_are_dealt_out_by_their_events() -> None:
    parts = shares({0: 10, 1: 90, 2: 40, 3: 50, 4: 0}, 2)
    assert sorted(sum(part.values()) for part in parts) == [90, 100]
    assert sorted(each for part in parts for each in part) == [0, 1, 2, 3, 4]
    assert shares({0: 5}, 4) == [{0: 5}]


async def test_a_rebuild_that_is_killed_takes_the_processes_that_fill_it_in_along(
    world: World,
) -> None:
    async with filled(world):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.contracts.projections.rebuild_process",
            *(world.settings.kafka_servers, world.url, world.topics.prefix, "histories"),
            "side by side",
        )
        fillers: list[int] = []

        def filling() -> bool:
            fillers[:] = [pid for pid in family(process.pid) if is_filler(pid)]
            return len(fillers) >= 2

        try:
            await becomes(filling)
            process.send_signal(signal.SIGSTOP)  # it can't end them by itself
        finally:
            process.kill()
            await process.wait()
        await becomes(lambda: not any(alive(pid) for pid in fillers))


def is_filler(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False
