"""API keys from the command line: made, listed and revoked as commands of the accounts context."""

import getpass
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

from commands.accounts import (
    ACCOUNTS,
    CreateKey,
    CreateTenant,
    RevokeKey,
    Tenant,
    create_key,
    create_tenant,
    revoke_key,
)
from commands.store import Receipt
from commands.submit import Commands, fingerprint
from events.accounts import KeyCreated, KeyRevoked
from events.envelope import Meta
from events.ids import KeyId, TenantId, derived_id, fresh_id
from events.trace import new_traceparent
from infra.event_store import AccountStore, open_account_store
from infra.settings import Settings

KEY_PREFIX = "tw_"
"""Lets a leaked key be recognised by scanners."""
KEY_RANDOM_BYTES = 32
DEFAULT_TENANT = "default"
_NAMESPACE = UUID(int=0)


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as `thalweg keys list` shows it; the key itself is not kept anywhere."""

    id: KeyId
    name: str
    owner: str
    created_at: datetime
    revoked: bool


def tenant_named(name: str) -> TenantId:
    """The id of the tenant with that name."""
    return TenantId(derived_id(_NAMESPACE, name, "tenant"))


def hash_of(key: str) -> str:
    """What is stored of a key: its SHA-256, hexadecimal."""
    return sha256(key.encode()).hexdigest()


async def make_key(
    settings: Settings, *, name: str, tenant: str = DEFAULT_TENANT, owner: str | None = None
) -> tuple[KeyId, str, Receipt]:
    """Makes the tenant if need be, and a key of it. The key is shown once: it is not stored.

    Returns the key's id, the key and the receipt. `owner` is the data subject of the key's
    calls; it is the name if none is given.
    """
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_RANDOM_BYTES)
    key_id = KeyId(fresh_id())
    async with _accounts(settings) as (_, commands):
        id_ = tenant_named(tenant)
        found = CreateTenant(id_, tenant)
        await commands.submit(
            id_, lambda state: create_tenant(state, found), _meta(id_), fingerprint(tenant)
        )
        made = CreateKey(id_, key_id, name, owner or name, hash_of(key))
        receipt = await commands.submit(
            id_, lambda state: create_key(state, made), _meta(id_), fingerprint(str(key_id))
        )
    return key_id, key, receipt


async def list_keys(settings: Settings, *, tenant: str = DEFAULT_TENANT) -> list[KeyRow]:
    """The tenant's keys, oldest first, revoked ones too; from the event store itself."""
    async with _accounts(settings) as (store, _):
        recorded = await store.load(tenant_named(tenant))
    revoked = {one.event.key for one in recorded if isinstance(one.event, KeyRevoked)}
    return [
        KeyRow(made.key, made.name, made.owner, one.meta.time, made.key in revoked)
        for one in recorded
        if isinstance(made := one.event, KeyCreated)
    ]


async def withdraw_key(settings: Settings, key: UUID, *, tenant: str = DEFAULT_TENANT) -> Receipt:
    """Takes a key out of service. Idempotent. Raises UnknownKey."""
    async with _accounts(settings) as (_, commands):
        id_ = tenant_named(tenant)
        command = RevokeKey(id_, KeyId(key))
        return await commands.submit(
            id_, lambda state: revoke_key(state, command), _meta(id_), fingerprint(str(key))
        )


@asynccontextmanager
async def _accounts(settings: Settings) -> AsyncIterator[tuple[AccountStore, Commands[Tenant]]]:
    store = await open_account_store(settings.database_url("accounts"))
    try:
        yield store, Commands(store, ACCOUNTS, event_bytes_max=settings.event_bytes_max)
    finally:
        await store.close()


def _meta(tenant: TenantId) -> Meta:
    return Meta(
        tenant=tenant,
        command=f"cli:{fresh_id()}",
        actor=f"cli:{getpass.getuser()}",
        subject=str(tenant),
        time=datetime.now(UTC),
        correlation=fresh_id(),
        traceparent=new_traceparent(),
    )
