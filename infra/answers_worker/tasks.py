"""Requests on the event store: the transcript, and what has become of the answer since."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from commands.errors import StoreUnavailable
from events.conversations import (
    AnswerCancelRequested,
    AnswerEnded,
    AnswerRequested,
    MessagePosted,
    Role,
    Sampling,
)
from events.envelope import Recorded
from events.ids import AnswerId, NodeId
from infra.event_store.answers import AnswerRow
from infra.failpoints import hit
from processors.answers.engine import Message
from processors.answers.ports import Request, RequestsUnavailable, Task

log = logging.getLogger("thalweg.answers")


class Store(Protocol):
    """What of infra.event_store.ConversationStore is needed."""

    async def find_asked(
        self, answer: UUID, stream: UUID
    ) -> tuple[AnswerRow | None, Sequence[Recorded] | Exception]: ...


@dataclass(slots=True)
class _Node:
    parent: NodeId | None
    message: Message | None


@dataclass(slots=True)
class _Tree:
    """A conversation's messages and answers, with what is known of one answer."""

    nodes: dict[NodeId, _Node] = field(default_factory=dict)
    requested: AnswerRequested | None = None
    cancel_requested: bool = False
    ended: bool = False

    def branch(self, last: NodeId) -> tuple[Message, ...]:
        """The messages from the first one down to `last`; answers without text are left out."""
        found: list[Message] = []
        at: NodeId | None = last
        while at is not None:
            node = self.nodes[at]
            if node.message is not None:
                found.append(node.message)
            at = node.parent
        return tuple(reversed(found))


ENDED = Task((), Sampling(max_tokens=1), 1, 0, ended=True, cancel_requested=False)
"""Nothing is left to do, so nothing else of it is looked at."""


class StoreRequests:
    """Implements processors.answers.ports.Requests."""

    def __init__(self, store: Store, *, answer_tokens_max: int) -> None:
        self._store = store
        self._answer_tokens_max = answer_tokens_max

    async def load(self, request: Request) -> Task:
        hit("answers.before_load")
        try:
            row, events = await self._store.find_asked(request.answer, request.conversation)
        except StoreUnavailable as error:
            raise RequestsUnavailable(str(error)) from error
        hit("answers.after_load")
        if row is not None and row.ended:
            return ENDED  # whatever the conversation holds
        if isinstance(events, Exception):
            raise events
        tree = _tree(events, request.answer)
        if row is None or tree.requested is None:
            # A store restored from an older backup: nobody waits for this answer any more.
            log.error("a request is not in the event store", extra={"answer": str(request.answer)})
            return ENDED
        sampling = tree.requested.sampling
        return Task(
            messages=tree.branch(tree.requested.parent),
            sampling=sampling,
            tokens_max=min(sampling.max_tokens, self._answer_tokens_max),
            seconds_left=row.seconds_left,
            age_seconds=row.age_seconds,
            ended=tree.ended,
            cancel_requested=tree.cancel_requested,
            unreadable=any(recorded.sealed is not None for recorded in events),
        )


def _tree(events: Sequence[Recorded], answer: AnswerId) -> _Tree:
    tree = _Tree()
    for recorded in events:
        event = recorded.event
        if isinstance(event, MessagePosted):
            message = Message(event.role, event.content)
            tree.nodes[event.message] = _Node(event.parent, message)
        elif isinstance(event, AnswerRequested):
            tree.nodes[event.answer] = _Node(event.parent, None)
            if event.answer == answer:
                tree.requested = event
        elif isinstance(event, AnswerEnded):
            if event.text and event.answer in tree.nodes:
                tree.nodes[event.answer].message = Message(Role.ASSISTANT, event.text)
            tree.ended = tree.ended or event.answer == answer
        elif isinstance(event, AnswerCancelRequested):
            tree.cancel_requested = tree.cancel_requested or event.answer == answer
    return tree
