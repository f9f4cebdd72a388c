"""Virtual token counters: what each tenant was served, so that who had least goes first.

After Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024): a tenant that was idle
does not save up; when it comes back it begins where the least served of the others is. Unlike
there, work is charged whole when it is dispatched and corrected when it ends, so that a tenant
does not get a whole batch before its first token is counted.
"""

from collections.abc import Iterable
from uuid import UUID

TENANTS_MAX = 10_000
"""Counters that are kept; of more, those are forgotten that would be lifted anyway."""


class Counters:
    """Tokens, by tenant, of one level."""

    def __init__(self) -> None:
        self._served: dict[UUID, int] = {}
        self._floor = 0
        """Where a tenant begins that comes now."""

    def of(self, tenant: UUID) -> int:
        return self._served.get(tenant, self._floor)

    def begins(self, tenant: UUID, others: Iterable[int]) -> None:
        """A tenant that had nothing queued has now. `others`: counters of those that have."""
        self._floor = max(self._floor, min(others, default=self._floor))
        self._served[tenant] = max(self.of(tenant), self._floor)
        if len(self._served) > TENANTS_MAX:
            self._served = {
                each: served for each, served in self._served.items() if served > self._floor
            }

    def is_last(self, tenant: UUID) -> None:
        """Nobody else has anything queued, and this tenant has no more: who comes next, after
        whatever pause, begins where it was."""
        self._floor = max(self._floor, self.of(tenant))

    def charge(self, tenant: UUID, tokens: int) -> None:
        """Negative: it was charged too much before."""
        self._served[tenant] = max(0, self.of(tenant) + tokens)
