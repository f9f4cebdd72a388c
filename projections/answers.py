"""`answers@1`: how each answer ended and what it said, chunk by chunk, behind late cursors."""

from collections.abc import Sequence
from typing import LiteralString

from events.codec import encode_kept
from events.conversations import AnswerEnded
from events.envelope import Event, Recorded
from projections.columns import columns, pieces
from projections.tables import Db, Tables

CREATE = """
CREATE TABLE IF NOT EXISTS {main} (
    answer uuid PRIMARY KEY,
    tenant uuid NOT NULL,
    conversation uuid NOT NULL,
    kind text NOT NULL,
    reason text NOT NULL,
    prompt_tokens int NOT NULL,
    completion_tokens int NOT NULL,
    seams int NOT NULL,
    ended_at timestamptz NOT NULL,
    ended bytea NOT NULL  -- AnswerEnded as the codec keeps it: sealed if its conversation is not
                          -- stored; and text may hold NUL, which text can't
);
"""

INSERT = """
INSERT INTO {main} SELECT * FROM unnest(
    %s::uuid[], %s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::int[], %s::int[], %s::int[],
    %s::timestamptz[], %s::bytea[])
ON CONFLICT DO NOTHING
"""

FIND = "SELECT ended FROM {main} WHERE tenant = %s AND answer = %s"


class Answers:
    """Text, chunk lengths, error, usage and seams are in `ended`; what is counted has columns."""

    tables = Tables("answers", 1)
    context = "conversations"
    types: frozenset[type[Event]] = frozenset({AnswerEnded})
    own_tables = CREATE
    own_indexes: LiteralString = ""
    own_suffixes: tuple[str, ...] = ("",)
    digested_suffixes: tuple[str, ...] = ("",)

    def take_over(self, connection: Db, former: Tables) -> None:
        """All of it follows from the events."""

    def apply(self, connection: Db, events: Sequence[Recorded], *, live: bool) -> None:
        rows = [
            (
                event.answer,
                one.meta.tenant,
                event.conversation,
                event.kind.value,
                event.reason,
                event.usage.prompt_tokens,
                event.usage.completion_tokens,
                len(event.seams),
                one.meta.time,
                encode_kept(one),
            )
            for one in events
            if isinstance(event := one.event, AnswerEnded)
        ]
        for some in pieces(rows, lambda row: len(row[-1])):
            connection.execute(self.tables.compose(INSERT), columns(some))
