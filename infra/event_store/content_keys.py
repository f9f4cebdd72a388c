"""The keys of conversations that are not stored: one a stream, kept until it expires.

A key is inserted in the transaction of its stream's first events, so there is never one without the
other. Every further append counts its time anew. What is past its time is destroyed, but not under
an answer that is being given. The row stays without the key: it says that there was one.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from eventsourcing.postgres import PostgresDatastore
from psycopg.sql import SQL

from commands.store import Append
from events.sealing import ContentKey
from infra.event_store.appending import Part
from infra.event_store.recorder import EVENTS_TABLE, EventRecorder

UNSTORED_SECONDS_MAX = 7_200.0
"""The default of the setting of this name."""
UNENDED_SECONDS_MAX = 9_600.0
"""How long an answer without an end keeps a key past its time; wirings give the retention of
tokens: what was said is gone by then, so an end can't record it any more."""
KEYS_PER_SWEEP_MAX = 500
"""Destroyed in one transaction."""

CREATE_CONTENT_KEYS = SQL(
    "CREATE TABLE IF NOT EXISTS {schema}.content_keys ("
    " stream uuid PRIMARY KEY,"
    " key bytea,"
    " expires_at timestamptz NOT NULL)"
)
CREATE_KEPT_KEYS = SQL(
    "CREATE INDEX IF NOT EXISTS kept_content_keys ON {schema}.content_keys (expires_at)"
    " WHERE key IS NOT NULL"
)
INSERT_KEYS = SQL(
    "INSERT INTO {schema}.content_keys (stream, key, expires_at)"
    " SELECT fresh.stream, fresh.key, appended_at + make_interval(secs => fresh.seconds)"
    " FROM unnest(fresh_streams, fresh_keys, fresh_seconds) AS fresh (stream, key, seconds)"
)
EXTEND_KEYS = SQL(
    "UPDATE {schema}.content_keys AS kept"
    " SET expires_at = appended_at + make_interval(secs => used.seconds)"
    " FROM unnest(used_streams, used_seconds) AS used (stream, seconds)"
    " WHERE kept.stream = used.stream AND kept.key IS NOT NULL"
)
FRESH_COLUMNS = {"fresh_streams": "uuid", "fresh_keys": "bytea", "fresh_seconds": "float8"}
USED_COLUMNS = {"used_streams": "uuid", "used_seconds": "float8"}
SELECT_KEYS = SQL(
    "SELECT stream, key FROM {schema}.content_keys"
    " WHERE stream = ANY(%s::uuid[]) AND key IS NOT NULL"
)
# A row that an append has locked is being used: it is skipped, and looked at again once changed.
DESTROY_KEYS = SQL(
    "WITH due AS MATERIALIZED ("
    " SELECT stream FROM {schema}.content_keys AS kept"
    " WHERE key IS NOT NULL AND expires_at < clock_timestamp()"
    " AND (expires_at < clock_timestamp() - make_interval(secs => %s) OR NOT EXISTS ("
    "  SELECT FROM {schema}.answers WHERE conversation = kept.stream AND ended_at IS NULL))"
    " ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)"
    " UPDATE {schema}.content_keys AS kept SET key = NULL FROM due"
    " WHERE kept.stream = due.stream"
)


class ContentKeyRecorder(EventRecorder):
    """Also keeps the keys that come with appends."""

    unstored_seconds_max = UNSTORED_SECONDS_MAX
    unended_seconds_max = UNENDED_SECONDS_MAX

    def __init__(
        self, datastore: PostgresDatastore, *, events_table_name: str = EVENTS_TABLE
    ) -> None:
        super().__init__(datastore, events_table_name=events_table_name)
        self.sql_create_statements += [
            self._sql(CREATE_CONTENT_KEYS),
            self._sql(CREATE_KEPT_KEYS),
        ]
        self._select_keys = self._query(SELECT_KEYS)
        self._destroy_keys = self._query(DESTROY_KEYS)

    def _parts(self) -> list[Part]:
        return [
            *super()._parts(),
            Part(FRESH_COLUMNS, INSERT_KEYS, self._fresh),
            Part(USED_COLUMNS, EXTEND_KEYS, self._used),
        ]

    def _fresh(self, appends: Sequence[Append]) -> Sequence[Sequence[Any]]:
        fresh, _ = keys_of(appends)
        seconds = [self.unstored_seconds_max] * len(fresh)
        return [key.id for key in fresh], [key.secret for key in fresh], seconds

    def _used(self, appends: Sequence[Append]) -> Sequence[Sequence[Any]]:
        _, used = keys_of(appends)
        return [key.id for key in used], [self.unstored_seconds_max] * len(used)

    def content_keys(self, ids: Iterable[UUID]) -> dict[UUID, ContentKey]:
        """Those of the keys that are still kept."""
        with self.datastore.get_connection() as connection:
            rows = connection.execute(self._select_keys, (list(ids),)).fetchall()
        return {row["stream"]: ContentKey(row["stream"], bytes(row["key"])) for row in rows}

    def destroy_keys(self) -> int:
        """Destroys keys past their time; returns how many, at most KEYS_PER_SWEEP_MAX."""
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(self._destroy_keys, (self.unended_seconds_max, KEYS_PER_SWEEP_MAX))
            return int(cursor.rowcount)


def keys_of(appends: Iterable[Append]) -> tuple[list[ContentKey], list[ContentKey]]:
    """The keys that are new with these appends, and those that are in use already."""
    fresh: list[ContentKey] = []
    used: list[ContentKey] = []
    for append in appends:
        first = append.events[0]
        if first.key is not None:
            (fresh if first.position == 1 else used).append(first.key)
    return fresh, used
