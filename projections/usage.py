"""`usage@1`: tokens and answers of each tenant, by user, model and day.

A day is that of the answer's end, in UTC by the event's own time. User and model are those of its
request, which waits in a table of its own until the end has come.
"""

from collections.abc import Sequence
from datetime import UTC
from hashlib import sha256
from typing import LiteralString
from uuid import UUID

from events.conversations import AnswerEnded, AnswerRequested
from events.envelope import Event, Recorded
from projections.columns import columns
from projections.exact_text import storable
from projections.tables import Db, Tables

CREATE = """
CREATE TABLE IF NOT EXISTS {main} (
    tenant uuid NOT NULL,
    key uuid NOT NULL,  -- a digest of subject and model: a client may give a model any length
    subject text NOT NULL,
    model text NOT NULL,
    day date NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    finished bigint NOT NULL,
    failed bigint NOT NULL,
    cancelled bigint NOT NULL,
    PRIMARY KEY (tenant, day, key)
);
CREATE TABLE IF NOT EXISTS {main_asked} (
    answer uuid PRIMARY KEY,
    tenant uuid NOT NULL,
    key uuid NOT NULL,
    subject text NOT NULL,
    model text NOT NULL
);
"""

ADD_ASKED = """
INSERT INTO {main_asked} SELECT * FROM
    unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::text[], %s::text[])
ON CONFLICT DO NOTHING
"""

# Only an end whose request is taken out counts. In the order of the keys: two writers of the same
# rows never wait for each other in a circle.
ADD_ENDS = """
WITH ended AS (
    SELECT * FROM unnest(%s::uuid[], %s::date[], %s::text[], %s::bigint[], %s::bigint[])
        AS ended (answer, day, kind, prompt_tokens, completion_tokens)
), taken AS (
    DELETE FROM {main_asked} WHERE answer IN (SELECT answer FROM ended) RETURNING *
), sums AS (
    SELECT tenant, key, subject, model, day,
           sum(prompt_tokens)::bigint, sum(completion_tokens)::bigint,
           count(*) FILTER (WHERE kind = 'finish'), count(*) FILTER (WHERE kind = 'fail'),
           count(*) FILTER (WHERE kind = 'cancelled')
    FROM taken JOIN ended USING (answer) GROUP BY tenant, key, subject, model, day
    ORDER BY tenant, day, key
)
INSERT INTO {main} AS known SELECT * FROM sums
ON CONFLICT (tenant, day, key) DO UPDATE SET
    prompt_tokens = known.prompt_tokens + excluded.prompt_tokens,
    completion_tokens = known.completion_tokens + excluded.completion_tokens,
    finished = known.finished + excluded.finished,
    failed = known.failed + excluded.failed,
    cancelled = known.cancelled + excluded.cancelled
"""


class Usage:
    """Exact under a relay's repeats, since the runner passes each position on once."""

    tables = Tables("usage", 1, parts=("asked",))
    context = "conversations"
    types: frozenset[type[Event]] = frozenset({AnswerRequested, AnswerEnded})
    own_tables = CREATE
    own_indexes: LiteralString = ""
    own_suffixes: tuple[str, ...] = ("", "asked")
    digested_suffixes: tuple[str, ...] = ("", "asked")

    def take_over(self, connection: Db, former: Tables) -> None:
        """All of it follows from the events."""

    def apply(self, connection: Db, events: Sequence[Recorded], *, live: bool) -> None:
        asked = []
        ended: dict[UUID, tuple[object, ...]] = {}
        for one in events:
            match one.event:
                case AnswerRequested() as event:
                    subject, model = storable(one.meta.subject), storable(event.model)
                    key = _key(subject, model)
                    asked.append((event.answer, one.meta.tenant, key, subject, model))
                case AnswerEnded() as event:
                    tokens = event.usage.prompt_tokens, event.usage.completion_tokens
                    day = one.meta.time.astimezone(UTC).date()
                    # The first end counts, in whatever batch another one comes.
                    ended.setdefault(event.answer, (event.answer, day, event.kind.value, *tokens))
        # An answer's request stands before its end in its stream, so it is written first.
        for statement, rows in ((ADD_ASKED, asked), (ADD_ENDS, list(ended.values()))):
            if rows:
                connection.execute(self.tables.compose(statement), columns(rows))


def _key(subject: str, model: str) -> UUID:
    """NUL parts the two: what is storable has none."""
    return UUID(bytes=sha256(f"{subject}\0{model}".encode()).digest()[:16])
