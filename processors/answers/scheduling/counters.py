"""Virtual token counters: what each tenant was served, so that who had least goes first.

After Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024): a tenant that was idle
does not save up; when it comes back it begins where the least served of the others is. Unlike
there, work is charged whole when it is dispatched and corrected when it ends, so that a tenant
does not get a whole batch before its first token is counted.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from uuid import UUID

TENANTS_MAX = 10_000
"""Counters that are kept; of more, those are forgotten that would be lifted anyway, and do not
wait: these stand in line at their counters."""


class Counters:
    """Tokens, by tenant, of one level."""

    def __init__(self) -> None:
        self._used: dict[UUID, int] = {}
        self._charged: Counter[UUID] = Counter()
        """Of calls that are under way: not yet known to be used."""
        self._floor = 0
        """Where a tenant begins that comes now."""

    def of(self, tenant: UUID) -> int:
        """What decides who is next."""
        return self._used_by(tenant) + self._charged[tenant]

    def begins(self, tenant: UUID, heads: Iterable[UUID]) -> None:
        """A tenant that had nothing queued has now. `heads`: those who are next without it.

        It begins where their use is known to be. What they are charged for calls under way may be
        many times what these will use: whoever began there would wait until all of it is made up.
        """
        self._floor = max(self._floor, min(map(self._used_by, heads), default=self._floor))
        self._used[tenant] = max(self._used_by(tenant), self._floor)

    def tidy(self, waits: Callable[[UUID], bool]) -> None:
        """Forgets some, if there are too many. `waits`: the tenant has something queued."""
        if len(self._used) > TENANTS_MAX:
            self._used = {
                each: used for each, used in self._used.items() if used > self._floor or waits(each)
            }

    def is_last(self, tenant: UUID) -> None:
        """Nobody else has anything queued, and this tenant has no more: who comes next, after
        whatever pause, begins where it was."""
        self._floor = max(self._floor, self._used_by(tenant))

    def charge(self, tenant: UUID, tokens: int) -> None:
        self._charged[tenant] += tokens

    def settle(self, tenant: UUID, charged: int, used: int) -> None:
        """What a call was charged is over, and what it has used is known."""
        self._used[tenant] = self._used_by(tenant) + used
        self._charged[tenant] -= charged
        if not self._charged[tenant]:
            del self._charged[tenant]

    def _used_by(self, tenant: UUID) -> int:
        return self._used.get(tenant, self._floor)
