"""`keys@1`: API keys by their hash, for the gateway's door; and the tenants."""

from collections.abc import Sequence
from typing import LiteralString

from events.accounts import KeyCreated, KeyRevoked, TenantCreated
from events.envelope import Event, Recorded
from projections.tables import Db, Tables

CREATE = """
CREATE TABLE IF NOT EXISTS {main} (
    key_hash text PRIMARY KEY,
    tenant uuid NOT NULL,
    key uuid NOT NULL UNIQUE,
    name text NOT NULL,
    owner text NOT NULL,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE TABLE IF NOT EXISTS {main_tenants} (
    tenant uuid PRIMARY KEY, name text NOT NULL, created_at timestamptz NOT NULL);
"""

ADD_TENANT = "INSERT INTO {main_tenants} VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
ADD_KEY = """
INSERT INTO {main} (key_hash, tenant, key, name, owner, created_at)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
REVOKE_KEY = "UPDATE {main} SET revoked_at = %s WHERE key = %s AND tenant = %s"
FIND = "SELECT tenant, key, name, owner, revoked_at IS NOT NULL FROM {main} WHERE key_hash = %s"
LIST = """
SELECT tenant, key, name, owner, revoked_at IS NOT NULL FROM {main} ORDER BY created_at, key
LIMIT %s
"""


class Keys:
    """Accounts are few and change seldom: one statement an event."""

    tables = Tables("keys", 1, parts=("tenants",))
    context = "accounts"
    types: frozenset[type[Event]] = frozenset({TenantCreated, KeyCreated, KeyRevoked})
    own_suffixes: tuple[str, ...] = ("", "tenants")
    digested_suffixes: tuple[str, ...] = ("", "tenants")
    own_tables = CREATE
    own_indexes: LiteralString = ""

    def take_over(self, connection: Db, former: Tables) -> None:
        """All of it follows from the events."""

    def apply(self, connection: Db, events: Sequence[Recorded], *, live: bool) -> None:
        for one in events:
            match one.event:
                case TenantCreated() as event:
                    values: tuple[object, ...] = (event.tenant, event.name, one.meta.time)
                    statement = ADD_TENANT
                case KeyCreated() as event:
                    values = (event.key_hash, event.tenant, event.key, event.name, event.owner)
                    values = (*values, one.meta.time)
                    statement = ADD_KEY
                case KeyRevoked() as event:
                    values = (one.meta.time, event.key, event.tenant)
                    statement = REVOKE_KEY
                case _:
                    continue
            connection.execute(self.tables.compose(statement), values)
