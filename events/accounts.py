"""What happens to accounts: tenants and their API keys. Stream: the tenant's id."""

from typing import ClassVar

from events.envelope import Event, Personal
from events.ids import KeyId, TenantId


class TenantCreated(Event):
    """A tenant was created: data and limits of different tenants never mix."""

    TYPE: ClassVar[str] = "thalweg.accounts.tenant_created"
    tenant: TenantId
    name: str


class KeyCreated(Event):
    """An API key was made. The key itself is shown once and never stored."""

    TYPE: ClassVar[str] = "thalweg.accounts.key_created"
    tenant: TenantId
    key: KeyId
    name: str
    owner: Personal[str]
    """The data subject of calls that name no other."""
    key_hash: str
    """SHA-256 of the key, hexadecimal. The key has 256 random bits, so no salt is needed."""


class KeyRevoked(Event):
    """An API key was taken out of service."""

    TYPE: ClassVar[str] = "thalweg.accounts.key_revoked"
    tenant: TenantId
    key: KeyId
