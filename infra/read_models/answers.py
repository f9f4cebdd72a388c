"""Ends of answers that are recorded: in the read model, and in the event store itself."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

import orjson

from commands.errors import StoreUnavailable
from events.answers import Entry, entries_of_ended
from events.codec import Undecodable, decode_kept
from events.conversations import AnswerEnded
from events.envelope import Recorded
from gateway.answer_streams import AnswerRef, RecordedEnds, SourceUnavailable
from gateway.errors import AnswerExpired
from infra.read_models.models import ReadModels
from projections import answers


class AnswersReadModel:
    """`answers@1`: ends that are recorded, as a source of an answer's stream. May lag.

    Of answers that are not stored it has no words: those are asked for where the key is.
    """

    tables = answers.Answers.tables

    def __init__(self, models: ReadModels, unstored: RecordedEnds) -> None:
        self._models = models
        self._unstored = unstored

    async def entries(self, ref: AnswerRef) -> Sequence[Entry] | None:
        """See gateway.answer_streams.RecordedEnds."""
        try:
            rows = await self._models.read(self.tables, answers.FIND, (ref.tenant, ref.answer))
            if not rows:
                return None
            fields = orjson.loads(rows[0][0])
            event, sealed = decode_kept(AnswerEnded.TYPE, AnswerEnded.VERSION, fields)
        except (StoreUnavailable, Undecodable) as error:
            raise SourceUnavailable(str(error)) from error
        if sealed is not None:
            return await self._unstored.entries(ref)
        return entries_of_ended(event) if isinstance(event, AnswerEnded) else None

    async def wait_applied(self, stream: UUID, position: int, *, seconds_max: float) -> bool:
        """Whether this conversation's events up to `position` are to be seen here."""
        return await self._models.wait_applied(
            self.tables, stream, position, seconds_max=seconds_max
        )


class Answered(Protocol):
    @property
    def ended(self) -> bool: ...
    @property
    def tenant(self) -> UUID: ...


class AnswersStore(Protocol):
    """What `StoredEnds` needs of the conversations' event store."""

    async def find_answer(self, answer: UUID) -> Answered | None: ...

    async def load(self, stream: UUID) -> Sequence[Recorded]: ...


class StoredEnds:
    """Ends as the event store itself has them: for when the projection lags or is parked, and for
    those that are not stored elsewhere.
    """

    def __init__(self, store: AnswersStore) -> None:
        self._store = store

    async def entries(self, ref: AnswerRef) -> Sequence[Entry] | None:
        """See gateway.answer_streams.RecordedEnds."""
        try:
            row = await self._store.find_answer(ref.answer)
            if row is None or not row.ended or row.tenant != ref.tenant:
                return None
            for recorded in reversed(await self._store.load(ref.conversation)):
                event = recorded.event
                if isinstance(event, AnswerEnded) and event.answer == ref.answer:
                    if recorded.sealed is not None:
                        raise AnswerExpired(ref.answer)
                    return entries_of_ended(event)
        except StoreUnavailable as error:
            raise SourceUnavailable(str(error)) from error
        return None
