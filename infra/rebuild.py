"""Builds a read model from the log again, beside the live one, and compares the two.

The new build has tables of its own, so that nobody is disturbed, and a rebuild that dies leaves
nothing but rows that the next one throws away. It is compared with the live build at the same
positions: the live one is read in a snapshot, and the new one is fed exactly as far. A version
without a live build is built twice, and its builds are compared with each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from events.topics import Topics
from infra.failpoints import hit
from infra.projections import all_projections, connect
from infra.rebuild_builder import AGAIN_SECONDS, Builder, Progress, RebuildRefused, in_thread
from infra.settings import Settings
from projections import tables as sqls
from projections import versions
from projections.digests import POSITIONS, Digest, digest
from projections.projection import Projection, beside
from projections.tables import Db, Tables
from projections.versions import Offsets, State

LIVE_SECONDS_MAX = 60.0
"""So long may a live build take to come to where the log was."""
SWITCH_SECONDS_MAX = 4.0
"""The live build stands still for it; its connection gives up after 5 s."""
SWITCH_ATTEMPTS_MAX = 5
COMPARISONS_MAX = 3
"""Where positions differ because events wait behind a gap, it is closed or parked by then."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came out."""

    label: str
    compared_with: str
    events: int
    seconds: float
    """Until the build had all events and all indexes."""
    mine: Digest
    theirs: Digest
    parked: int
    """Streams that are parked in the new build."""
    switched: bool

    @property
    def equal(self) -> bool:
        return self.mine == self.theirs


async def rebuild(
    settings: Settings,
    topics: Topics,
    name: str,
    *,
    switch: bool = False,
    force: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Rebuilt:
    """Builds the version of `name` that this program knows. Raises RebuildRefused.

    `switch` makes the new build live if it is equal, with `force` also if it is not.
    """
    found = {one.tables.name: one for one in all_projections()}
    if name not in found:
        raise RebuildRefused(f"there is no projection {name!r}; there are {', '.join(found)}")
    with contextlib.ExitStack() as stack:
        thread = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="rebuild"))
        guard = await in_thread(thread, connect, settings.database_url("projections"))
        stack.callback(guard.close)
        await in_thread(thread, _claim, guard, found[name])
        return await _Rebuild(settings, topics, found[name], guard, thread, progress).run(
            switch=switch, force=force
        )


class _Rebuild:
    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        projection: Projection,
        guard: Db,
        thread: ThreadPoolExecutor,
        progress: Callable[[Progress], None],
    ) -> None:
        self._settings = settings
        self._topic = topics.domain(projection.context)
        self._projection = projection
        self._guard = guard
        self._thread = thread
        self._progress = progress

    async def run(self, *, switch: bool, force: bool) -> Rebuilt:
        tables = self._projection.tables
        live = await in_thread(self._thread, versions.live_of, self._guard, tables.name)
        if live is None:
            raise RebuildRefused(
                f"no build of {tables.name} is live yet; a process of the role projections makes it"
            )
        async with contextlib.AsyncExitStack() as stack:
            if live.version == tables.version:
                theirs = beside(self._projection, live.build)
            else:
                reference = await stack.enter_async_context(self._begun())
                await reference.fill()
                theirs = reference.projection
            mine = await stack.enter_async_context(self._begun())
            seconds = await mine.fill()
            hit("rebuild.after_fill")
            of_mine, of_theirs = await self._compare(mine, theirs)
            parked = await mine.parked()
            switched = switch and (of_mine == of_theirs or force)
            if switched:
                hit("rebuild.before_switch")
                await self._switch(mine)
                hit("rebuild.after_switch")
            label = mine.projection.tables.label
            return Rebuilt(
                label,
                theirs.tables.label,
                mine.events,
                seconds,
                of_mine,
                of_theirs,
                parked,
                switched,
            )

    @contextlib.asynccontextmanager
    async def _begun(self) -> AsyncIterator[Builder]:
        """A further build, gone in the end unless it is live by then."""
        number = await in_thread(
            self._thread, versions.next_build, self._guard, self._projection.tables
        )
        builder = Builder(
            beside(self._projection, number), self._settings, self._topic, self._progress
        )
        tables = builder.projection.tables
        await in_thread(self._thread, versions.begin, self._guard, tables)
        hit("rebuild.after_begin")
        try:
            async with contextlib.aclosing(builder):
                await builder.open()
                yield builder
        finally:
            await in_thread(self._thread, _drop_unused, self._guard, builder.projection)

    async def _compare(self, mine: Builder, theirs: Projection) -> tuple[Digest, Digest]:
        for left in reversed(range(COMPARISONS_MAX)):
            of_mine, of_theirs = await self._compare_once(mine, theirs)
            if of_mine.of[POSITIONS] == of_theirs.of[POSITIONS] or not left:
                break
            await asyncio.sleep(self._settings.gap_seconds_max)
        return of_mine, of_theirs

    async def _compare_once(self, mine: Builder, theirs: Projection) -> tuple[Digest, Digest]:
        """Both at the same positions: the other in a snapshot, mine fed as far as it is there."""
        until = time.monotonic() + LIVE_SECONDS_MAX
        url = self._settings.database_url("projections")
        while True:
            with ThreadPoolExecutor(1) as thread, _snapshot(url) as snapshot:
                at = await in_thread(thread, _offsets, snapshot, theirs.tables, self._topic)
                if not mine.is_past(at):
                    await mine.feed_to(at)
                    of_theirs = await in_thread(
                        thread, digest, snapshot, theirs.tables, theirs.digested_suffixes
                    )
                    return await mine.digest(), of_theirs
            if time.monotonic() > until:
                raise RebuildRefused(
                    f"{theirs.tables.label} does not get on, so there is nothing to compare with:"
                    " is a process of the role projections running?"
                )
            await asyncio.sleep(AGAIN_SECONDS)

    async def _switch(self, mine: Builder) -> None:
        loop = asyncio.get_running_loop()
        feeding: list[Future[None]] = []

        def catch_up(at: Offsets) -> None:
            mine_at = {partition: offset for (_, partition), offset in at.items()}
            feeding.append(asyncio.run_coroutine_threadsafe(mine.feed_to(mine_at), loop))
            feeding[-1].result(SWITCH_SECONDS_MAX)
            hit("rebuild.in_switch")

        tables = mine.projection.tables
        for left in reversed(range(SWITCH_ATTEMPTS_MAX)):
            live = await in_thread(self._thread, versions.live_of, self._guard, tables.name)
            if live is not None:  # most of the way before anybody has to stand still
                at = await in_thread(self._thread, _offsets, self._guard, live, self._topic)
                await mine.feed_to(at)
            try:
                await in_thread(
                    self._thread, versions.switch, self._guard, mine.projection, catch_up
                )
                return
            except (TimeoutError, versions.StillBehind):
                if not left:
                    raise
            finally:  # never cut off, it would lose what it has read; nor fed twice at once
                for one in feeding:
                    await asyncio.wrap_future(one)


CLAIM = "SELECT pg_try_advisory_lock(hashtextextended('thalweg rebuild ' || %s, 0))"


def _claim(guard: Db, projection: Projection) -> None:
    """One rebuild of a projection at a time; what a dead one left is thrown away.

    Postgres lets go of the claim when the connection ends, however that comes about.
    """
    name = projection.tables.name
    guard.execute(sqls.COMMON)
    row = guard.execute(CLAIM, (name,)).fetchone()
    if row is None or not row[0]:
        raise RebuildRefused(f"another rebuild of {name} is under way; wait for it, or stop it")
    for build in versions.builds(guard):
        same = (build.tables.name, build.tables.version) == (name, projection.tables.version)
        if same and build.state is State.BUILDING:
            _drop_unused(guard, beside(projection, build.tables.build))


def _drop_unused(guard: Db, projection: Projection) -> None:
    if versions.state_of(guard, projection.tables) is State.BUILDING:
        sqls.drop(guard, projection.tables, projection.own_suffixes)


def _offsets(connection: Db, tables: Tables, topic: str) -> dict[int, int]:
    return dict(connection.execute(tables.compose(sqls.OFFSETS), (topic,)).fetchall())


@contextlib.contextmanager
def _snapshot(url: str) -> Iterator[Db]:
    """A connection that sees the tables as they are at its first query; it holds nobody up."""
    with connect(url) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield connection
