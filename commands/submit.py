"""The one way in: load, decide, append; and the same answer for the same command, for ever."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Generic, TypeVar
from uuid import UUID

from commands.errors import Busy, ContentExpired, EventTooLarge, Refused, StalePosition
from commands.store import Append, Attempt, EventStore, PositionTaken, Receipt
from events.codec import encode_kept
from events.envelope import Event, Meta, Recorded
from events.ids import fresh_id
from events.sealing import ContentKey, fresh_key, parse

State = TypeVar("State")

SUBMIT_ATTEMPTS_MAX = 20
"""Others may append to the same stream between load and append; then the command decides anew."""


@dataclass(frozen=True, slots=True)
class Decider(Generic[State]):
    """The pure core of one kind of stream."""

    initial: State
    evolve: Callable[[State, Event], State]

    def replay(self, recorded: Sequence[Recorded]) -> State:
        state = self.initial
        for one in recorded:
            state = self.evolve(state, one.event)
        return state


def fingerprint(*parts: str | bytes) -> bytes:
    """A digest of what was asked, to tell a repeat from a reused key."""
    digest = sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.digest()


class Commands(Generic[State]):
    """Submits commands to the streams of one context."""

    def __init__(self, store: EventStore, decider: Decider[State], *, event_bytes_max: int) -> None:
        self._store = store
        self._decider = decider
        self._event_bytes_max = event_bytes_max

    async def submit(
        self,
        stream: UUID,
        decide: Callable[[State], list[Event]],
        meta: Meta,
        asked: bytes,
        *,
        expected_position: int | None = None,
        new_stream: bool = False,
        keyed: bool = False,
        attempt: Attempt | None = None,
        subject_of_stream: bool = False,
    ) -> Receipt:
        """Stores what `decide` makes of the stream's state, once.

        `asked` is the fingerprint of the request. `new_stream` says that the stream should not
        exist yet, so that it is not even read. With `subject_of_stream` the events are about whom
        the stream's first event is about, and about `meta`'s subject only if there is none. A
        decision of no events is a success that stores no event; if the command's id is `keyed`, its
        client may send it again when the stream has gone on, so it is kept that there was nothing
        to do. `attempt` may make it a repeat: see EventStore.append. Raises Refused.
        """
        for tried in range(SUBMIT_ATTEMPTS_MAX):
            assume_empty = new_stream and tried == 0
            recorded = [] if assume_empty else await self._store.load(stream)
            if recorded and recorded[0].meta.tenant != meta.tenant:
                recorded = []  # another tenant's stream does not exist for this one
            try:
                if expected_position is not None and expected_position != len(recorded):
                    raise StalePosition(stream, expected_position, len(recorded))
                decided = decide(self._decider.replay(recorded))
                _check_content(stream, recorded, decided)
                key = _key_of(stream, recorded, decided)
                known = subject_of_stream and recorded
                about = replace(meta, subject=recorded[0].meta.subject) if known else meta
                numbered = tuple(
                    Recorded(fresh_id(), stream, position, about, event, key=key)
                    for position, event in enumerate(decided, start=len(recorded) + 1)
                )
                self._check_size(numbered)
            except Refused:
                # A repeat of a stored command is often refused by what it did itself.
                stored = await self._store.receipt(meta.tenant, meta.command, asked)
                if stored is not None:
                    return stored
                raise
            if not decided:
                return await self._nothing_new(stream, recorded, meta, asked, keyed)
            append = Append(meta.tenant, meta.command, asked, stream, numbered, attempt)
            try:
                return await self._store.append(append)
            except PositionTaken:
                continue
        raise Busy(stream, SUBMIT_ATTEMPTS_MAX)

    async def load(self, stream: UUID) -> State:
        return self._decider.replay(await self._store.load(stream))

    async def _nothing_new(
        self, stream: UUID, recorded: Sequence[Recorded], meta: Meta, asked: bytes, keyed: bool
    ) -> Receipt:
        if keyed:
            kept = await self._store.keep_command(
                meta.tenant, meta.command, asked, stream, len(recorded)
            )
            return replace(kept, repeated=True)
        stored = await self._store.receipt(meta.tenant, meta.command, asked)
        if stored is not None:
            return stored
        at = recorded[-1].meta.time if recorded else meta.time
        return Receipt(stream, len(recorded), at, repeated=True)

    def _check_size(self, numbered: Sequence[Recorded]) -> None:
        for one in numbered:
            size = len(encode_kept(one))
            if size > self._event_bytes_max:
                raise EventTooLarge(size, self._event_bytes_max)


def _check_content(stream: UUID, recorded: Sequence[Recorded], decided: Sequence[Event]) -> None:
    """Nothing goes on what can't be read any more; ends are recorded even so."""
    if recorded and recorded[0].sealed is not None and any(event.GOES_ON for event in decided):
        raise ContentExpired(stream)


def _key_of(
    stream: UUID, recorded: Sequence[Recorded], decided: Sequence[Event]
) -> ContentKey | None:
    """What seals the stream's next events. A stream is sealed from its first event on, or never.

    If its key is gone, they are sealed under one that nobody keeps: nothing of it is ever open.
    """
    if not recorded:
        return fresh_key(stream) if any(event.begins_sealed for event in decided) else None
    first = recorded[0]
    return first.key if first.sealed is None else fresh_key(parse(first.sealed).key)
