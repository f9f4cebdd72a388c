"""The index of answers: where an answer's conversation is, and which answers are still open.

It is written in the transaction of the events themselves, so it never lags. The write side needs
it: a work item, a cancel or a stream names an answer, and admission counts those that are open.
Deletions stand beside it: whoever has the id of an answer must not read for ever what was deleted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresDatastore
from psycopg import Connection, Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL

from events.conversations import AnswerEnded, AnswerRequested, ConversationDeleted
from events.envelope import Recorded
from events.ids import AnswerId, ConversationId, TenantId
from infra.event_store.content_keys import ContentKeyRecorder
from infra.event_store.recorder import EVENTS_TABLE, Group
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
    "INSERT INTO {schema}.deleted_conversations (conversation) SELECT unnest(%s::uuid[])"
    " ON CONFLICT DO NOTHING"
)
INSERT_ANSWERS = SQL(
    "INSERT INTO {schema}.answers (answer, tenant, conversation, deadline_seconds)"
    " SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::double precision[])"
)
END_ANSWERS = SQL(
    "UPDATE {schema}.answers SET ended_at = clock_timestamp()"
    " WHERE answer = ANY(%s::uuid[]) AND ended_at IS NULL"
)
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
        super().__init__(datastore, events_table_name=events_table_name)
        self.turns = Turns(datastore, events_table_name, repeat_seconds_max=repeat_seconds_max)
        self.sql_create_statements += [self._sql(CREATE_ANSWERS), self._sql(CREATE_OPEN_ANSWERS)]
        self.sql_create_statements += [self._sql(CREATE_DELETED), *self.turns.create]
        self._insert_deleted = self._query(INSERT_DELETED)
        self._insert_answers = self._query(INSERT_ANSWERS)
        self._end_answers = self._query(END_ANSWERS)
        self._select_answers = self._query(SELECT_ANSWERS)
        self._count_open = self._query(COUNT_OPEN)

    def _insert_events(
        self, curs: Cursor[DictRow], stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> None:
        super()._insert_events(curs, stored_events, **kwargs)
        group: Group | None = kwargs.get("group")
        if group is None:
            return
        self.turns.begin(curs, group.new)
        asked: list[tuple[Recorded, AnswerRequested]] = []
        ended: list[AnswerId] = []
        deleted: list[ConversationId] = []
        for append in group.new:
            for recorded in append.events:
                event = recorded.event
                if isinstance(event, AnswerRequested):
                    asked.append((recorded, event))
                elif isinstance(event, AnswerEnded):
                    ended.append(event.answer)
                elif isinstance(event, ConversationDeleted):
                    deleted.append(event.conversation)
        if asked:
            curs.execute(
                self._insert_answers,
                (
                    [event.answer for _, event in asked],
                    [recorded.meta.tenant for recorded, _ in asked],
                    [event.conversation for _, event in asked],
                    [event.deadline_seconds for _, event in asked],
                ),
            )
        if ended:
            curs.execute(self._end_answers, (ended,))
        if deleted:
            curs.execute(self._insert_deleted, (deleted,))

    def _join(self, curs: Cursor[DictRow], group: Group) -> None:
        self.turns.join_group(curs, group)

    def find_answers(self, answers: Sequence[UUID]) -> dict[UUID, AnswerRow]:
        """Those that there are."""
        with self.datastore.get_connection() as connection:
            return self._answers_of(connection, answers)

    def asked(
        self, answers: Sequence[UUID], streams: Sequence[UUID]
    ) -> tuple[dict[UUID, AnswerRow], dict[UUID, list[StoredEvent]]]:
        """What the index knows of the answers, then the streams: never older than that."""
        with self.datastore.get_connection() as connection:
            return self._answers_of(connection, answers), self._streams_of(connection, streams)

    def _answers_of(
        self, connection: Connection[DictRow], answers: Sequence[UUID]
    ) -> dict[UUID, AnswerRow]:
        values = (self.stopped_readable_seconds, list(answers))
        rows = connection.execute(self._select_answers, values, binary=True)
        return {row["answer"]: _answer_row(row) for row in rows}

    def unanswered(self) -> dict[UUID, int]:
        """How many answers of each tenant are open; tenants with none are left out."""
        with self.datastore.get_connection() as connection:
            rows = connection.execute(self._count_open).fetchall()
        return {row["tenant"]: row["open"] for row in rows}


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
