"""What reactions change, gathered and then written by a few statements for all of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic
from uuid import UUID

from events.envelope import Recorded
from infra.sagas import tables
from infra.sagas.tables import Db
from sagas.saga import Answered, Fired, Kept, Reaction, Saga, Sent, State, Timer

ANY_TIME_FROM_NOW = datetime.max.replace(tzinfo=UTC)
"""In place of an event's time where there is no event: `START_TIMERS` takes now, as it is less."""


@dataclass(slots=True)
class Instance(Generic[State]):
    """A row, as it is by now. Its state is None before its beginning and after its end."""

    stream: UUID
    position: int
    state: State | None
    alarm: str | None = None


@dataclass(slots=True)
class Changes(Generic[State, Sent]):
    """Of one transaction, in which all the instances that are put into are locked."""

    saga: Saga[State, Sent]
    known: dict[UUID, Instance[State]]
    changed: set[UUID] = field(default_factory=set)
    timers: dict[UUID, tuple[datetime, tuple[Timer, ...]]] = field(default_factory=dict)
    commands: dict[str, tuple[UUID, Sent]] = field(default_factory=dict)

    def take(self, instance: UUID, recorded: Recorded) -> None:
        """An event; one that is not later in its stream than the last one was taken already."""
        known = self.known.get(instance)
        if known is None:
            known = self.known[instance] = Instance(recorded.stream, 0, None)
        if recorded.position <= known.position:
            return
        known.position = recorded.position
        self._react(instance, known, recorded, recorded.meta.time)

    def put(self, instance: UUID, put: Fired | Answered[Sent]) -> None:
        known = self.known.get(instance)
        if known is not None:
            self._react(instance, known, put, ANY_TIME_FROM_NOW)

    def _react(
        self,
        instance: UUID,
        known: Instance[State],
        put: Recorded | Fired | Answered[Sent],
        at: datetime,
    ) -> None:
        reaction: Reaction[State, Sent] = self.saga.react(known.state, put)
        known.state = reaction.state
        known.alarm = reaction.alarm or known.alarm
        self.changed.add(instance)
        if reaction.timers is not None:
            self.timers[instance] = at, reaction.timers
        for command in reaction.commands:
            self.commands[command.id] = instance, command

    async def save(self, connection: Db) -> None:
        """Inside a transaction."""
        saga = self.saga.name
        over = [one for one in self.changed if self.known[one].state is None]
        kept = [(one, self.known[one]) for one in self.changed if self.known[one].state is not None]
        if over:
            await connection.execute(tables.END_INSTANCES, (saga, over))
        if kept:
            await connection.execute(
                tables.SAVE_INSTANCES,
                (
                    saga,
                    [instance for instance, _ in kept],
                    [one.stream for _, one in kept],
                    [one.position for _, one in kept],
                    [_json(one.state) for _, one in kept],
                    [one.alarm for _, one in kept],
                ),
            )
            await self._save_timers(connection, {instance for instance, _ in kept})
        if self.commands:
            await connection.execute(
                tables.PUT_COMMANDS,
                (
                    saga,
                    list(self.commands),
                    [instance for instance, _ in self.commands.values()],
                    [_json(command) for _, command in self.commands.values()],
                ),
            )

    async def _save_timers(self, connection: Db, kept: set[UUID]) -> None:
        """Timers of instances that are over went with them."""
        timers = {instance: found for instance, found in self.timers.items() if instance in kept}
        if not timers:
            return
        await connection.execute(tables.STOP_TIMERS, (self.saga.name, list(timers)))
        started = [
            (instance, timer.name, at, timer.seconds)
            for instance, (at, found) in timers.items()
            for timer in found
        ]
        if started:
            columns = (list(column) for column in zip(*started, strict=True))
            await connection.execute(tables.START_TIMERS, (self.saga.name, *columns))


async def locked(
    connection: Db, saga: Saga[State, Sent], instances: Iterable[UUID]
) -> Changes[State, Sent]:
    """What is known of these instances, locked until the transaction ends."""
    found = await connection.execute(tables.LOCK_INSTANCES, (saga.name, list(instances)))
    return Changes(saga, known_of(saga, await found.fetchall()))


def known_of(
    saga: Saga[State, Sent], rows: Iterable[tuple[UUID, UUID, int, str]]
) -> dict[UUID, Instance[State]]:
    return {
        instance: Instance(stream, position, saga.state.model_validate_json(state))
        for instance, stream, position, state in rows
    }


def _json(kept: Kept | None) -> str | None:
    return None if kept is None else kept.model_dump_json()


Moves = Mapping[int, tuple[int, int]]
"""Of each partition the offset that was next before, and the one that is after."""


class Overtaken(Exception):
    """A partition is not where this process has left it: another one has it now."""


async def move_offsets(connection: Db, saga: str, topic: str, moves: Moves) -> None:
    """Inside a transaction. Raises Overtaken."""
    partitions = sorted(moves)
    moved = await connection.execute(
        tables.MOVE_OFFSETS,
        {
            "saga": saga,
            "topic": topic,
            "partitions": partitions,
            "before": [moves[one][0] for one in partitions],
            "after": [moves[one][1] for one in partitions],
        },
    )
    if moved.rowcount != len(partitions):
        raise Overtaken(f"another process reads a partition of {topic}")
