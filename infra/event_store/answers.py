"""The index of answers: where an answer's conversation is, and which answers are still open.

It is written in the transaction of the events themselves, so it never lags. The write side needs
it: a work item, a cancel or a stream names an answer, and admission counts those that are open.
Deletions stand beside it: whoever has the id of an answer must not read for ever what was deleted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresDatastore
from psycopg import Connection, Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL

from commands.store import Append
from events.conversations import AnswerEnded, AnswerRequested, ConversationDeleted
from events.envelope import Event, Recorded
from events.ids import AnswerId, ConversationId, TenantId
from infra.event_store.appending import Part
from infra.event_store.content_keys import ContentKeyRecorder
from infra.event_store.recorder import EVENTS_TABLE, Group, stored_by_stream
from infra.event_store.turns import REPEAT_SECONDS_MAX, Turns

STOPPED_READABLE_SECONDS = 60.0
"""An answer that a deletion has stopped can be read for so long after its end: whoever was reading
it, and comes again with a cursor, gets the end."""


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """What the index knows of an answer, by the database's clock."""

    answer: AnswerId
    tenant: TenantId
    conversation: ConversationId
    seconds_left: float
    """Until its deadline; negative past it."""
    ended: bool
    age_seconds: float
    """Since it was asked for."""
    expired: bool = False
    """Its conversation was not to be stored, and the key is gone: nobody can read it any more."""
    gone: bool = False
    """Its conversation was deleted, and it had ended by then or STOPPED_READABLE_SECONDS ago."""


CREATE_ANSWERS = SQL(
    "CREATE TABLE IF NOT EXISTS {schema}.answers ("
    " answer uuid PRIMARY KEY,"
    " tenant uuid NOT NULL,"
    " conversation uuid NOT NULL,"
    " asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),"
    " deadline_seconds double precision NOT NULL,"
    " ended_at timestamptz)"
)
CREATE_OPEN_ANSWERS = SQL(
    "CREATE INDEX IF NOT EXISTS open_answers ON {schema}.answers (tenant) WHERE ended_at IS NULL"
)
CREATE_DELETED = SQL(
    "CREATE TABLE IF NOT EXISTS {schema}.deleted_conversations ("
    " conversation uuid PRIMARY KEY,"
    " deleted_at timestamptz NOT NULL DEFAULT clock_timestamp())"
)
INSERT_DELETED = SQL(
    "INSERT INTO {schema}.deleted_conversations (conversation) SELECT unnest(deleted_streams)"
    " ON CONFLICT DO NOTHING"
)
INSERT_ANSWERS = SQL(
    "INSERT INTO {schema}.answers (answer, tenant, conversation, deadline_seconds)"
    " SELECT * FROM unnest(asked_answers, asked_tenants, asked_conversations, asked_deadlines)"
)
END_ANSWERS = SQL(
    "UPDATE {schema}.answers SET ended_at = clock_timestamp()"
    " WHERE answer = ANY(ended_answers) AND ended_at IS NULL"
)
ASKED_COLUMNS = {
    "asked_answers": "uuid",
    "asked_tenants": "uuid",
    "asked_conversations": "uuid",
    "asked_deadlines": "float8",
}
ENDED_COLUMNS = {"ended_answers": "uuid"}
DELETED_COLUMNS = {"deleted_streams": "uuid"}
SELECT_ANSWERS = SQL(
    "SELECT answer, tenant, answers.conversation, ended_at IS NOT NULL AS ended,"
    " extract(epoch FROM clock_timestamp() - asked_at)::float8 AS age_seconds, deadline_seconds,"
    " stream IS NOT NULL AND key IS NULL AS expired,"
    " coalesce(ended_at < greatest("
    "  deleted_at, clock_timestamp() - make_interval(secs => %s)), false)"
    "  AND deleted_at IS NOT NULL AS gone"
    " FROM {schema}.answers LEFT JOIN {schema}.content_keys ON stream = conversation"
    " LEFT JOIN {schema}.deleted_conversations AS deleted"
    "  ON deleted.conversation = answers.conversation"
    " WHERE answer = ANY(%s::uuid[])"
)
COUNT_OPEN = SQL(
    "SELECT tenant, count(*) AS open FROM {schema}.answers WHERE ended_at IS NULL GROUP BY tenant"
)


class ConversationRecorder(ContentKeyRecorder):
    """Also keeps the index of answers, the turns that may be joined, and the keys of conversations
    that are not stored."""

    stopped_readable_seconds = STOPPED_READABLE_SECONDS

    def __init__(
        self,
        datastore: PostgresDatastore,
        *,
        events_table_name: str = EVENTS_TABLE,
        repeat_seconds_max: float = REPEAT_SECONDS_MAX,
    ) -> None:
        self.turns = Turns(datastore, events_table_name, repeat_seconds_max=repeat_seconds_max)
        super().__init__(datastore, events_table_name=events_table_name)
        self.sql_create_statements += [self._sql(CREATE_ANSWERS), self._sql(CREATE_OPEN_ANSWERS)]
        self.sql_create_statements += [self._sql(CREATE_DELETED), *self.turns.create]
        self._select_answers = self._query(SELECT_ANSWERS)
        self._count_open = self._query(COUNT_OPEN)

    def _parts(self) -> list[Part]:
        return [
            *super()._parts(),
            self.turns.part,
            Part(ASKED_COLUMNS, INSERT_ANSWERS, _asked),
            Part(ENDED_COLUMNS, END_ANSWERS, _ended),
            Part(DELETED_COLUMNS, INSERT_DELETED, _deleted),
        ]

    def _may_join(self, group: Group) -> bool:
        return self.turns.may_join(group)

    def _join(self, cursor: Cursor[DictRow], group: Group) -> None:
        self.turns.join_group(cursor, group)

    def find_answers(self, answers: Sequence[UUID]) -> dict[UUID, AnswerRow]:
        """Those that there are."""
        with self.datastore.get_connection() as connection:
            return _answer_rows(self._ask_answers(connection, answers))

    def asked(
        self, answers: Sequence[UUID], streams: Sequence[UUID]
    ) -> tuple[dict[UUID, AnswerRow], dict[UUID, list[StoredEvent]]]:
        """What the index knows of the answers, then the streams: never older than that."""
        with self.datastore.get_connection() as connection:
            with connection.pipeline():  # one way there and back
                rows = self._ask_answers(connection, answers)
                events = self._ask_streams(connection, streams)
            return _answer_rows(rows), stored_by_stream(streams, events)

    def _ask_answers(
        self, connection: Connection[DictRow], answers: Sequence[UUID]
    ) -> Cursor[DictRow]:
        values = (self.stopped_readable_seconds, list(answers))
        return connection.execute(self._select_answers, values, binary=True)

    def unanswered(self) -> dict[UUID, int]:
        """How many answers of each tenant are open; tenants with none are left out."""
        with self.datastore.get_connection() as connection:
            rows = connection.execute(self._count_open).fetchall()
        return {row["tenant"]: row["open"] for row in rows}


E = TypeVar("E", bound=Event)


def _events(appends: Sequence[Append], kind: type[E]) -> list[tuple[Recorded, E]]:
    return [
        (recorded, recorded.event)
        for append in appends
        for recorded in append.events
        if isinstance(recorded.event, kind)
    ]


def _asked(appends: Sequence[Append]) -> Sequence[Sequence[Any]]:
    asked = _events(appends, AnswerRequested)
    return (
        [event.answer for _, event in asked],
        [recorded.meta.tenant for recorded, _ in asked],
        [event.conversation for _, event in asked],
        [float(event.deadline_seconds) for _, event in asked],
    )


def _ended(appends: Sequence[Append]) -> Sequence[Sequence[Any]]:
    return ([event.answer for _, event in _events(appends, AnswerEnded)],)


def _deleted(appends: Sequence[Append]) -> Sequence[Sequence[Any]]:
    return ([event.conversation for _, event in _events(appends, ConversationDeleted)],)


def _answer_rows(rows: Cursor[DictRow]) -> dict[UUID, AnswerRow]:
    return {row["answer"]: _answer_row(row) for row in rows}


def _answer_row(row: DictRow) -> AnswerRow:
    return AnswerRow(
        answer=row["answer"],
        tenant=row["tenant"],
        conversation=row["conversation"],
        seconds_left=row["deadline_seconds"] - row["age_seconds"],
        ended=row["ended"],
        age_seconds=row["age_seconds"],
        expired=row["expired"],
        gone=row["gone"],
    )
