"""API keys, as the gateway looks them up."""

from uuid import UUID

from gateway.ports import Caller
from infra.read_models.models import ReadModels
from projections import keys


class KeysReadModel:
    """`keys@1`, as the gateway's port `Keys` wants it."""

    tables = keys.Keys.tables

    def __init__(self, models: ReadModels) -> None:
        self._models = models

    async def find(self, key_hash: str) -> Caller | None:
        """Whose key has this SHA-256; None if unknown or revoked. Raises StoreUnavailable."""
        rows = await self._models.read(self.tables, keys.FIND, (key_hash,))
        if not rows:
            return None
        tenant, key, _name, owner, revoked = rows[0]
        return None if revoked else Caller(tenant=tenant, key=key, owner=owner)

    async def wait_applied(self, stream: UUID, position: int, *, seconds_max: float) -> bool:
        """Whether a new key of this tenant works, or a revoked one no longer does."""
        return await self._models.wait_applied(
            self.tables, stream, position, seconds_max=seconds_max
        )
