"""Which appends share a transaction, and what becomes of them if its outcome is not known."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest
from eventsourcing.persistence import OperationalError, StoredEvent

from commands.store import Append, Attempt, Receipt
from infra.event_store.recorder import CommandKey, StoredCommand
from infra.event_store.writer import Writer
from tests.contracts.event_store.appends import append

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Groups:
    """A recorder that stores anything, and keeps which came together."""

    def __init__(self) -> None:
        self.stored: list[list[Append]] = []

    def store(
        self, appends: Sequence[Append], stored_events: Sequence[StoredEvent]
    ) -> dict[CommandKey, Receipt]:
        self.stored.append(list(appends))
        return {(one.tenant, one.command): Receipt(one.stream, 1, NOW) for one in appends}

    def stored_commands(self, keys: Sequence[CommandKey]) -> dict[CommandKey, StoredCommand]:
        return {}

    def heads(self, streams: Sequence[UUID]) -> dict[UUID, int]:
        return dict.fromkeys(streams, 0)


def send(number: int, asked: bytes = b"asked") -> Append:
    return append(attempt=Attempt(UUID(int=77), asked, number))


async def stored_together(*appends: Append) -> list[list[Append]]:
    """The groups of these appends, all of which were waiting when the writer began."""
    recorder = Groups()
    writer = Writer(recorder, "test")
    waiting = [asyncio.create_task(writer.append(one, ())) for one in appends]
    await asyncio.sleep(0)
    writer.start()
    await asyncio.gather(*waiting)
    await asyncio.to_thread(writer.close)
    return recorder.stored


async def test_first_sends_share_a_transaction() -> None:
    given = [send(0) for _ in range(32)]
    assert await stored_together(*given) == [given]


async def test_a_repeat_comes_after_the_turn_that_it_may_join() -> None:
    first, second, third, other, plain = send(0), send(1), send(2), send(1, b"else"), append()
    together = await stored_together(first, third, second, other, plain)
    assert together == [[first, other, plain], [third, second]]


async def test_repeats_of_one_number_share_a_transaction_since_none_can_join_another() -> None:
    given = [send(1), send(1), send(0)]
    assert await stored_together(*given) == [given]
    low, high = send(1), send(2)
    assert await stored_together(low, high) == [[low], [high]]


class LosesItsConnection(Groups):
    """In its first transaction: before it has committed, or before it could say so."""

    def __init__(self, *, landed: bool) -> None:
        super().__init__()
        self.landed = landed
        self.commands: dict[CommandKey, StoredCommand] = {}
        self.attempts = 0

    def store(
        self, appends: Sequence[Append], stored_events: Sequence[StoredEvent]
    ) -> dict[CommandKey, Receipt]:
        self.attempts += 1
        is_lost = self.attempts == 1
        if is_lost and not self.landed:
            raise OperationalError
        for one in appends:
            key = one.tenant, one.command
            self.commands[key] = StoredCommand(one.stream, 1, one.fingerprint, NOW)
        receipts = super().store(appends, stored_events)
        if is_lost:
            raise OperationalError
        return receipts

    def stored_commands(self, keys: Sequence[CommandKey]) -> dict[CommandKey, StoredCommand]:
        return {key: self.commands[key] for key in keys if key in self.commands}

    def heads(self, streams: Sequence[UUID]) -> dict[UUID, int]:
        stored = {one.stream for one in self.commands.values()}
        return {stream: int(stream in stored) for stream in streams}


@pytest.mark.parametrize("landed", [True, False])
async def test_what_a_lost_connection_left_in_doubt_is_looked_up_and_stored_once(
    landed: bool,
) -> None:
    recorder = LosesItsConnection(landed=landed)
    writer = Writer(recorder, "test")
    given = append()
    writer.start()
    receipt = await writer.append(given, ())
    await asyncio.to_thread(writer.close)
    assert receipt == Receipt(given.stream, 1, NOW), "not as one that was stored before"
    assert recorder.stored == [[given]]
