"""`histories@1`: conversations as their readers see them, with their messages and answers.

A batch is folded in memory (`histories_fold`) and written by a few statements. Beside the rows, and
no part of a digest, each change of a conversation in the live build gets a number of its subject
for the feed, and `thalweg_histories` is notified of whose conversations have changed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from events import conversations as said
from events.conversations import Attachment, Kind
from events.envelope import Event, Recorded
from projections import histories_sql as sqls
from projections.columns import columns, pieces
from projections.exact_text import (
    ESCAPE,
    exact,
    exact_or_none,
    storable,
    storable_or_none,
    subject_digest,
)
from projections.histories_fold import Changes, Node, Row, fold
from projections.tables import Db, Tables

CHANNEL = "thalweg_histories"
"""Notified with a JSON list: the `subject_digest` of each subject whose conversations changed."""
NOTIFIED_SUBJECTS_MAX = 300
"""A notification of Postgres has less than 8,000 bytes; with more subjects it is EVERYBODY."""
EVERYBODY = "*"

PARTS = (
    "nodes",
    "heads",
    "numbers",
    "by_activity",
    "completions",
    "metadata",
    "words",
    "by_number",
)


class Histories:
    """Only conversations that are stored have a row; of a deleted one it is all that is left."""

    tables = Tables("histories", 1, parts=PARTS)
    context = "conversations"
    types: frozenset[type[Event]] = frozenset(
        {
            said.ConversationStarted,
            said.ConversationRenamed,
            said.MetadataReplaced,
            said.ConversationArchived,
            said.ConversationUnarchived,
            said.ConversationDeleted,
            said.ConversationRead,
            said.BranchChosen,
            said.MessagePosted,
            said.AnswerRequested,
            said.AnswerAskedAgain,
            said.AnswerCancelRequested,
            said.AnswerEnded,
        }
    )
    own_tables = sqls.TABLES
    own_indexes = sqls.INDEXES
    own_suffixes: tuple[str, ...] = ("", "nodes", "heads", "numbers")
    digested_suffixes: tuple[str, ...] = ("", "nodes")

    def apply(self, connection: Db, events: Sequence[Recorded], *, live: bool) -> None:
        changes = fold(self._load(connection, events), events)
        if not changes.rows:
            return
        self._save_nodes(connection, changes)
        rows = [_row_values(row) for row in changes.rows.values()]
        connection.execute(self.tables.compose(sqls.SAVE_ROWS), columns(rows))
        if live:
            shown = [changes.rows[conversation] for conversation in changes.shown]
            changed = [
                (row.conversation, row.tenant, storable(row.subject))
                for row in shown
                if row.kind == Kind.CONVERSATION
            ]
            self._number(connection, changed)
            self._tell(connection, changed)

    def take_over(self, connection: Db, former: Tables) -> None:
        """Cursors of feeds go on: each conversation keeps its number, unless it has changed since.

        A former version has to have these tables in this form, or its successor a way of its own.
        """
        names = {f"former_{part}": former.table(part) for part in ("heads", "numbers")}
        for statement in (sqls.FORGET_NUMBERS, sqls.COPY_HEADS, sqls.COPY_NUMBERS):
            connection.execute(self.tables.compose(statement, **names))
        ahead = self.tables.compose(sqls.AHEAD, former=former.table())
        self._number(connection, connection.execute(ahead).fetchall())
        connection.execute(sqls.NOTIFY, (CHANNEL, orjson.dumps([EVERYBODY]).decode()))

    def _load(self, connection: Db, events: Sequence[Recorded]) -> dict[UUID, Row]:
        started = {one.stream for one in events if isinstance(one.event, said.ConversationStarted)}
        wanted = list({one.stream for one in events} - started)
        if not wanted:
            return {}
        rows = connection.execute(self.tables.compose(sqls.LOAD_ROWS), (wanted,)).fetchall()
        return {values[0]: _row(values) for values in rows}

    def _save_nodes(self, connection: Db, changes: Changes) -> None:
        for nodes in pieces(changes.nodes.values(), lambda node: len(node.text or "")):
            rows = [_node_values(node, changes.rows[node.conversation]) for node in nodes]
            connection.execute(self.tables.compose(sqls.ADD_NODES), columns(rows))
        if changes.cancelling:
            statement = self.tables.compose(sqls.CANCELLING)
            connection.execute(statement, columns(changes.cancelling))
        for some in pieces(changes.ends, lambda end: len(end.ended.text)):
            ends = [
                (end.conversation, end.position, *_end_values(end.ended), end.time, end.at)
                for end in some
            ]
            connection.execute(self.tables.compose(sqls.END_NODES), columns(ends))
        if changes.wiped:
            statement = self.tables.compose(sqls.WIPE_NODES)
            connection.execute(statement, (list(changes.wiped),))

    def _number(self, connection: Db, changed: Sequence[tuple[UUID, UUID, str]]) -> None:
        """Gives conversations (with tenant and storable subject) numbers that no subject had."""
        if not changed:
            return
        counts = Counter((tenant, subject) for _, tenant, subject in changed)
        heads = connection.execute(
            self.tables.compose(sqls.TAKE_NUMBERS),
            columns([(*whose, count) for whose, count in counts.items()]),
        ).fetchall()
        free = {
            (tenant, subject): number - counts[tenant, subject] + 1
            for tenant, subject, number in heads
        }
        numbered = []
        for conversation, *whose in changed:
            key = whose[0], whose[1]
            numbered.append((conversation, *key, free[key]))
            free[key] += 1
        connection.execute(self.tables.compose(sqls.GIVE_NUMBERS), columns(numbered))

    def _tell(self, connection: Db, changed: Iterable[tuple[UUID, UUID, str]]) -> None:
        digests = sorted({subject_digest(tenant, exact(stored)) for _, tenant, stored in changed})
        if len(digests) > NOTIFIED_SUBJECTS_MAX:
            digests = [EVERYBODY]
        if digests:
            connection.execute(sqls.NOTIFY, (CHANNEL, orjson.dumps(digests).decode()))


def search_scope(tenant: UUID, subject: str) -> str:
    """The lexeme in every searched node of a subject; no text of a user leads to one like it."""
    return ESCAPE + subject_digest(tenant, subject)


def pack_metadata(metadata: Mapping[str, str]) -> str:
    """As the column has it: jsonb can't hold NUL either."""
    return _json({storable(name): storable(value) for name, value in metadata.items()})


def unpack_metadata(stored: Mapping[str, str]) -> dict[str, str]:
    """The inverse of `pack_metadata`, of the decoded column."""
    return {exact(name): exact(value) for name, value in stored.items()}


def _row(values: Sequence[Any]) -> Row:
    """In the order of LOAD_ROWS."""
    conversation, tenant, subject, kind, created_at, last_activity, title, metadata, *rest = values
    position, opening, archived, deleted, head, model, messages, answers, *marks = rest
    read_position, unread, answering = marks
    return Row(
        conversation=conversation,
        tenant=tenant,
        subject=exact(subject),
        kind=kind,
        created_at=created_at,
        last_activity=last_activity,
        title=exact_or_none(title),
        metadata=unpack_metadata(metadata),
        position=position,
        opening=exact_or_none(opening),
        archived=archived,
        deleted=deleted,
        head=head,
        model=exact_or_none(model),
        messages=messages,
        answers=answers,
        read_position=read_position,
        unread=unread,
        answering={UUID(answer): at for answer, at in answering.items()},
    )


def _row_values(row: Row) -> tuple[object, ...]:
    """In the order of SAVE_ROWS."""
    return (
        row.conversation,
        row.tenant,
        storable(row.subject),
        row.kind,
        row.created_at,
        row.last_activity,
        storable_or_none(row.title),
        pack_metadata(row.metadata) if row.metadata else "{}",
        row.position,
        storable_or_none(row.opening),
        row.archived,
        row.deleted,
        row.head,
        storable_or_none(row.model),
        row.messages,
        row.answers,
        row.read_position,
        _json(row.unread) if row.unread else "[]",
        _json({str(answer): at for answer, at in row.answering.items()}) if row.answering else "{}",
    )


def _node_values(node: Node, row: Row) -> tuple[object, ...]:
    """In the order of ADD_NODES."""
    searched = row.kind == Kind.CONVERSATION
    return (
        node.conversation,
        node.position,
        node.node,
        node.parent,
        node.role,
        node.created_at,
        storable_or_none(node.text),
        None if node.text is None else len(node.text.encode()),
        _attachments(node.attachments),
        node.edits,
        storable_or_none(node.model),
        node.band,
        node.status,
        storable_or_none(node.reason),
        storable_or_none(node.error),
        node.prompt_tokens,
        node.completion_tokens,
        node.ended_at,
        node.ended_position,
        search_scope(row.tenant, row.subject) if searched else None,
    )


def _end_values(ended: said.AnswerEnded) -> tuple[object, ...]:
    return (
        storable(ended.text),
        len(ended.text.encode()),
        ended.kind.value,
        storable(ended.reason),
        storable_or_none(ended.error),
        ended.usage.prompt_tokens,
        ended.usage.completion_tokens,
    )


def _attachments(attachments: tuple[Attachment, ...]) -> str | None:
    """JSON in a text column, which may say NUL as an escape."""
    return _json([one.model_dump() for one in attachments]) if attachments else None


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
