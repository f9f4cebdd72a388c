"""A rebuild beside the live read model: equal, switched, gone back, killed, and refused."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import psycopg
import pytest

from events.envelope import Recorded
from infra.cli import projections_work as builds
from infra.projections import connect, run_projections
from infra.read_models import ReadModels
from infra.rebuild import Rebuilt, rebuild
from infra.rebuild_builder import Builder, Progress, RebuildRefused
from projections import tables as sqls
from projections import versions
from projections.conversations import Histories
from projections.keys import Keys
from projections.projection import beside
from tests.contracts.projections.deliver import an_account
from tests.contracts.projections.test_feed import World, becomes, world
from tests.projections.histories_events import Told, mixed

__all__ = ["world"]

READ = "SELECT position FROM {positions} WHERE stream = %s"
NAMES = ("answers", "histories", "usage")


def a_past() -> list[Told]:
    conversations = [Told(title=f"{number}") for number in range(20)]
    for number, told in enumerate(conversations):
        for _ in range(number % 4):
            told.turn("What is a thalweg?", "A line.\0")
        if number % 4 == 1:
            told.ask()
    return conversations


async def fill(world: World, conversations: list[Told]) -> None:
    await world.send("conversations", repeated(mixed(conversations)))
    await world.send("accounts", an_account())


def repeated(recorded: list[Recorded]) -> list[Recorded]:
    """A relay that goes back ten events after each hundred."""
    sent = []
    for at in range(0, len(recorded), 100):
        sent += recorded[max(0, at - 10) : at + 100]
    return sent


@contextlib.asynccontextmanager
async def filled(world: World) -> AsyncIterator[list[Told]]:
    conversations = a_past()
    await fill(world, conversations)
    async with world.projections():
        for name in NAMES:
            await world.has(f"{name}_v1_positions", len(conversations))
        await world.has("keys_v1", 2)
        await becomes(lambda: applied(world, "histories_v1") == total(conversations))
        yield conversations


def total(conversations: list[Told]) -> int:
    return sum(len(told.recorded) for told in conversations)


def applied(world: World, build: str) -> int:
    with psycopg.connect(world.url) as db:
        row = db.execute(f"SELECT sum(position) FROM {build}_positions").fetchone()  # type: ignore[arg-type]
    return int(row[0] or 0) if row else 0


async def rebuilt(world: World, name: str, **how: bool) -> Rebuilt:
    return await rebuild(world.settings, world.topics, name, **how)


def names(world: World) -> dict[str, str]:
    with psycopg.connect(world.url) as db:
        rows = db.execute("SELECT name, version, build, state FROM projection_builds").fetchall()
    return {f"{name}@{version}.{build}": state for name, version, build, state in rows}


@pytest.mark.parametrize("name", [*NAMES, "keys"])
async def test_a_rebuild_equals_the_live_read_model_and_leaves_nothing(
    world: World, name: str
) -> None:
    async with filled(world):
        told: list[Progress] = []
        result = await rebuild(world.settings, world.topics, name, progress=told.append)
        assert result.equal, result
        assert result.mine.of["positions"].rows > 0
        assert (result.switched, result.parked) == (False, 0)
        assert told[-1].done == told[-1].of == result.events
        assert f"{name}@1.2" not in names(world)
    assert world.count(f"{name}_v1_b2_positions") == 0


async def test_what_differs_is_found_and_not_switched_to(world: World) -> None:
    async with filled(world):
        with connect(world.url) as db:
            db.execute("UPDATE histories_v1 SET title = 'damaged' WHERE title = '3'")
        result = await rebuilt(world, "histories", switch=True)
        assert result.theirs.differing(result.mine) == [""]
        assert not result.switched
        assert names(world)["histories@1.1"] == "live"
        forced = await rebuilt(world, "histories", switch=True, force=True)
        assert (forced.equal, forced.switched) == (False, True)
        assert (await rebuilt(world, "histories")).equal


async def test_after_a_switch_both_are_fed_and_going_back_works(world: World) -> None:
    models = ReadModels(world.url, connections_max=2)
    await models.open()
    try:
        async with filled(world) as conversations:
            numbers = world_numbers(world, "histories_v1")
            result = await rebuilt(world, "histories", switch=True)
            assert (result.equal, result.switched) == (True, True)
            assert (await models.live(Histories.tables)).build == 2
            assert world_numbers(world, "histories_v1_b2") == numbers, "cursors of feeds go on"
            conversations[3].turn("more")
            await world.send("conversations", conversations[3].recorded[-3:])
            await becomes(lambda: applied(world, "histories_v1_b2") == total(conversations))
            await becomes(lambda: applied(world, "histories_v1") == total(conversations))
            later = world_numbers(world, "histories_v1_b2")
            assert later[conversations[3].id] > max(numbers.values())
            assert world_numbers(world, "histories_v1") == numbers, "only the live one is numbered"
            assert builds.switch(world.settings, "histories@1") == 0
            assert (await models.live(Histories.tables)).build == 1
            assert world_numbers(world, "histories_v1") == later
            assert builds.drop(world.settings, "histories@1") == 1, "it is live"
            assert builds.drop(world.settings, "histories@1.2") == 0
            conversations[4].turn("more")
            await world.send("conversations", conversations[4].recorded[-3:])
            await becomes(lambda: applied(world, "histories_v1") == total(conversations))
            assert world_numbers(world, "histories_v1")[conversations[4].id] > max(later.values())
            assert (await rebuilt(world, "histories")).equal
    finally:
        await models.close()


def world_numbers(world: World, build: str) -> dict[UUID, int]:
    with psycopg.connect(world.url) as db:
        rows = db.execute(f"SELECT conversation, number FROM {build}_numbers").fetchall()  # type: ignore[arg-type]
    return dict(rows)


async def test_a_session_never_reads_less_over_switches(world: World) -> None:
    """Reads again and again, while events come and builds change places; positions only grow."""
    models = ReadModels(world.url, connections_max=2)
    await models.open()
    seen: list[int] = []
    told = Told()

    async def reader() -> None:
        while True:
            rows = await models.read(Histories.tables, READ, (told.id,))
            seen.append(rows[0][0] if rows else 0)

    async def writer() -> None:
        while True:
            told.turn("?")
            await world.send("conversations", told.recorded[-3:])

    try:
        async with filled(world):
            await world.send("conversations", told.recorded[:1])
            tasks = [asyncio.create_task(work()) for work in (reader, writer)]
            for _ in range(2):
                result = await rebuilt(world, "histories", switch=True)
                assert (result.equal, result.switched) == (True, True), result
            await becomes(lambda: seen[-1] > 1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert seen == sorted(seen)
            assert len(set(seen)) > 2
            assert (await models.live(Histories.tables)).build == 3
    finally:
        await models.close()


async def test_an_old_build_that_is_not_fed_cannot_become_live(world: World) -> None:
    async with filled(world) as conversations:
        await rebuilt(world, "histories", switch=True)
    conversations[0].turn("more")
    with connect(world.url) as db:
        db.execute("UPDATE histories_v1_b2_positions SET position = position + 1")
        db.execute("UPDATE histories_v1_b2_offsets SET next_offset = next_offset + 1")
    assert builds.switch(world.settings, "histories@1") == 1
    assert names(world)["histories@1.2"] == "live"


async def test_a_rebuild_that_is_killed_half_way_is_no_hindrance(world: World) -> None:
    async with filled(world):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.contracts.projections.rebuild_process",
            *(world.settings.kafka_servers, world.url, world.topics.prefix, "histories"),
        )
        try:
            await becomes(lambda: names(world).get("histories@1.2") == "building")
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(RebuildRefused, match="another rebuild of histories is under way"):
                await rebuilt(world, "histories")
        finally:
            process.kill()
            await process.wait()
        assert names(world)["histories@1.2"] == "building", "it was not at its end"
        await becomes(lambda: claims(world) == 0)
        result = await rebuilt(world, "histories", switch=True)
        assert (result.equal, result.switched) == (True, True)
        assert result.label == "histories@1.2", "what was left is thrown away"


def claims(world: World) -> int:
    with psycopg.connect(world.url) as db:
        row = db.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchone()
    return int(row[0]) if row else 0


async def test_two_rebuilds_at_once_refuse_each_other(world: World) -> None:
    async with filled(world):
        refused: list[str] = []

        async def second() -> None:
            try:
                await rebuilt(world, "histories")
            except RebuildRefused as problem:
                refused.append(str(problem))

        others: list[asyncio.Task[None]] = []

        def tell(_: Progress) -> None:
            others.append(asyncio.create_task(second()))

        first = await rebuild(world.settings, world.topics, "histories", progress=tell)
        await asyncio.gather(*others)
        assert first.equal
        late = [one for one in refused if "another rebuild of histories is under way" in one]
        assert late == refused
        assert refused


async def test_what_cannot_be_rebuilt_is_refused_with_the_reason(world: World) -> None:
    with pytest.raises(RebuildRefused, match="no projection 'history'"):
        await rebuilt(world, "history")
    with pytest.raises(RebuildRefused, match="no build of histories is live yet"):
        await rebuilt(world, "histories")


async def test_a_new_version_is_built_twice_and_its_builds_are_compared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NextHistories(Histories):
        tables = replace(Histories.tables, version=2)

    async with filled(world):
        monkeypatch.setattr("infra.rebuild.all_projections", lambda: (NextHistories(), Keys()))
        result = await rebuilt(world, "histories", switch=True)
        assert (result.label, result.compared_with) == ("histories@2.2", "histories@2")
        assert (result.equal, result.switched) == (True, True)
        states = names(world)
        assert (states["histories@1.1"], states["histories@2.2"]) == ("old", "live")
        assert "histories@2.1" not in states


async def test_a_parked_stream_is_said_and_the_digests_tell(world: World) -> None:
    async with filled(world) as conversations:
        with connect(world.url) as db:
            db.execute(
                "DELETE FROM histories_v1_positions WHERE stream = %s", (conversations[3].id,)
            )
        world.settings = world.settings.model_copy(update={"gap_seconds_max": 0.1})
        result = await rebuilt(world, "histories", switch=True)
        assert result.theirs.differing(result.mine) == ["positions"]


async def test_the_role_does_not_feed_a_version_that_was_never_built(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filled(world):
        pass

    class NextKeys(Keys):
        tables = replace(Keys.tables, version=2)

    monkeypatch.setattr("infra.projections.all_projections", lambda: (NextKeys(),))
    task = asyncio.create_task(run_projections(world.settings, world.topics))
    try:
        await becomes(lambda: any("is not built" in one.message for one in caplog.records))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert names(world)["keys@1.1"] == "live"
    assert world.count("keys_v2_positions") == 0


async def test_what_is_beyond_the_end_is_not_read_into_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever partition Kafka sends last."""
    monkeypatch.setattr("infra.rebuild_builder.EVENTS_PER_BATCH", 10)
    conversations = [Told() for _ in range(30)]
    for told in conversations:
        for _ in range(20):
            told.turn("?")
    await world.send("conversations", mixed(conversations))
    topic = world.topics.domain("conversations")
    for last in range(3):
        projection = beside(Histories(), 2 + last)
        with connect(world.url) as db:
            db.execute(sqls.COMMON)
            versions.begin(db, projection.tables)
        builder = Builder(projection, world.settings, topic, lambda _: None)
        async with contextlib.aclosing(builder):
            await builder.open()
            ends = await builder._reader.end_offsets(topic, [0, 1, 2])
            await builder.feed_to({last: ends[last]})
            assert len(builder._over) <= 3 * 10
            await builder.feed_to(ends)
            assert builder._over == []
        assert builder.events == total(conversations)
        assert applied(world, f"histories_v1_b{2 + last}") == total(conversations)
