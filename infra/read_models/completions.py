"""Which completions are stored: the gateway's port `CompletionList` over `histories@1`."""

from collections.abc import Sequence

from gateway.openai.ports import CompletionsWanted, Listed, Place
from infra.read_models.models import ReadModels
from projections.conversations import Histories, pack_metadata
from projections.exact_text import storable

# A completion's answer is its head. Its index is in the order of the rows, either way.
FIND_OLDEST_FIRST = """
SELECT listed.created_at, listed.conversation, listed.head FROM {main} AS listed
WHERE listed.tenant = %(tenant)s AND listed.kind = 'completion' AND NOT listed.deleted
  AND (%(model)s::text IS NULL OR listed.model = %(model)s)
  AND listed.metadata @> %(metadata)s::jsonb
  AND (%(after)s::uuid IS NULL
    OR (listed.created_at, listed.conversation) > (%(after_time)s::timestamptz, %(after)s))
  AND EXISTS (
    SELECT FROM {main_nodes} AS answer WHERE answer.conversation = listed.conversation
    AND answer.node = listed.head AND answer.status IN ('finish', 'cancelled'))
ORDER BY listed.created_at, listed.conversation LIMIT %(limit)s
"""
FIND_NEWEST_FIRST = """
SELECT listed.created_at, listed.conversation, listed.head FROM {main} AS listed
WHERE listed.tenant = %(tenant)s AND listed.kind = 'completion' AND NOT listed.deleted
  AND (%(model)s::text IS NULL OR listed.model = %(model)s)
  AND listed.metadata @> %(metadata)s::jsonb
  AND (%(after)s::uuid IS NULL
    OR (listed.created_at, listed.conversation) < (%(after_time)s::timestamptz, %(after)s))
  AND EXISTS (
    SELECT FROM {main_nodes} AS answer WHERE answer.conversation = listed.conversation
    AND answer.node = listed.head AND answer.status IN ('finish', 'cancelled'))
ORDER BY listed.created_at DESC, listed.conversation DESC LIMIT %(limit)s
"""


class CompletionsReadModel:
    def __init__(self, models: ReadModels) -> None:
        self._models = models

    async def find(self, wanted: CompletionsWanted) -> Sequence[Listed]:
        """See gateway.openai.ports.CompletionList."""
        values = {
            "tenant": wanted.tenant,
            "model": None if wanted.model is None else storable(wanted.model),
            "metadata": pack_metadata(wanted.metadata),
            "after": None if wanted.after is None else wanted.after.conversation,
            "after_time": None if wanted.after is None else wanted.after.created_at,
            "limit": wanted.limit,
        }
        statement = FIND_NEWEST_FIRST if wanted.newest_first else FIND_OLDEST_FIRST
        rows = await self._models.read(Histories.tables, statement, values)
        return [
            Listed(Place(created_at, conversation), answer)
            for created_at, conversation, answer in rows
        ]
