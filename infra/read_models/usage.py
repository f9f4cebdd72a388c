"""`usage@1`, as the gateway's port `UsageSums` wants it."""

from collections.abc import Sequence

from psycopg.rows import TupleRow

from gateway.read_ports import Read, UsagePlace, UsageQuery, UsageRow
from infra.read_models.applied import AppliedPositions
from infra.read_models.models import ReadModels
from projections.exact_text import exact, storable
from projections.usage import Usage

# What is summed over is empty text, or a day before all others, so that rows can be compared.
ROWS = """
SELECT * FROM (
    SELECT CASE WHEN %(by_day)s THEN day ELSE '0001-01-01'::date END AS its_day,
           CASE WHEN %(by_user)s THEN subject ELSE '' END COLLATE "C" AS its_user,
           CASE WHEN %(by_model)s THEN model ELSE '' END COLLATE "C" AS its_model,
           sum(prompt_tokens)::bigint, sum(completion_tokens)::bigint, sum(finished)::bigint,
           sum(failed)::bigint, sum(cancelled)::bigint
    FROM {main}
    WHERE tenant = %(tenant)s AND day BETWEEN %(first)s AND %(last)s
      AND (%(subject)s::text IS NULL OR subject = %(subject)s)
      AND (%(model)s::text IS NULL OR model = %(model)s)
    GROUP BY its_day, its_user, its_model
) AS sums
WHERE NOT %(behind)s OR (its_day, its_user, its_model)
    > (coalesce(%(at_day)s::date, '0001-01-01'), %(at_user)s::text, %(at_model)s::text)
ORDER BY its_day, its_user, its_model LIMIT %(limit)s
"""


class UsageReadModel:
    """See gateway.read_ports.UsageSums."""

    tables = Usage.tables
    context = Usage.context

    def __init__(self, models: ReadModels) -> None:
        self._models = models
        self.applied = AppliedPositions(models, self.tables, self.context)

    async def rows(
        self, query: UsageQuery, *, behind: UsagePlace | None, limit: int
    ) -> Read[Sequence[UsageRow]]:
        place = behind or UsagePlace(None, None, None)
        values = {
            "by_day": "day" in query.by,
            "by_user": "user" in query.by,
            "by_model": "model" in query.by,
            "tenant": query.tenant,
            "first": query.first,
            "last": query.last,
            "subject": None if query.subject is None else storable(query.subject),
            "model": None if query.model is None else storable(query.model),
            "behind": behind is not None,
            "at_day": place.day,
            "at_user": storable(place.subject or ""),
            "at_model": storable(place.model or ""),
            "limit": limit,
        }
        rows, seen = await self._models.read_seen(self.tables, self.context, ROWS, values)
        return Read([_row(row, query.by) for row in rows], seen)


def _row(values: TupleRow, by: frozenset[str]) -> UsageRow:
    day, subject, model, *sums = values
    place = UsagePlace(
        day if "day" in by else None,
        exact(subject) if "user" in by else None,
        exact(model) if "model" in by else None,
    )
    return UsageRow(place, *sums)
