"""What may happen to a tenant and its API keys."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from commands.errors import UnknownKey, UnknownTenant
from commands.submit import Decider
from events.accounts import KeyCreated, KeyRevoked, TenantCreated
from events.envelope import Event
from events.ids import KeyId, TenantId


@dataclass(frozen=True, slots=True)
class CreateTenant:
    tenant: TenantId
    name: str


@dataclass(frozen=True, slots=True)
class CreateKey:
    tenant: TenantId
    key: KeyId
    name: str
    owner: str
    key_hash: str


@dataclass(frozen=True, slots=True)
class RevokeKey:
    tenant: TenantId
    key: KeyId


@dataclass(frozen=True, slots=True)
class Tenant:
    id: TenantId | None = None
    keys: Mapping[KeyId, bool] = field(default_factory=dict)
    """Each key that was made; True while it is in service."""


def create_tenant(state: Tenant, command: CreateTenant) -> list[Event]:
    """Idempotent: a tenant that exists stays as it is."""
    if state.id is not None:
        return []
    return [TenantCreated(tenant=command.tenant, name=command.name)]


def create_key(state: Tenant, command: CreateKey) -> list[Event]:
    if state.id is None:
        raise UnknownTenant(command.tenant)
    if command.key in state.keys:
        return []
    return [
        KeyCreated(
            tenant=command.tenant,
            key=command.key,
            name=command.name,
            owner=command.owner,
            key_hash=command.key_hash,
        )
    ]


def revoke_key(state: Tenant, command: RevokeKey) -> list[Event]:
    if command.key not in state.keys:
        raise UnknownKey(command.key)
    if not state.keys[command.key]:
        return []
    return [KeyRevoked(tenant=command.tenant, key=command.key)]


def evolve(state: Tenant, event: Event) -> Tenant:
    match event:
        case TenantCreated():
            return replace(state, id=event.tenant)
        case KeyCreated():
            return replace(state, keys={**state.keys, event.key: True})
        case KeyRevoked():
            return replace(state, keys={**state.keys, event.key: False})
    return state


ACCOUNTS: Decider[Tenant] = Decider(Tenant(), evolve)
