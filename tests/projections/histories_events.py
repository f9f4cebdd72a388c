"""Conversations as their events, for tests of what is read of them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from events import conversations as said
from events.conversations import EndKind, Role, Sampling, Usage
from events.envelope import Event, Meta, Recorded
from events.ids import AnswerId, ConversationId, MessageId, NodeId, TenantId, fresh_id

TENANT = TenantId(UUID(int=7))
OTHER_TENANT = TenantId(UUID(int=8))
SUBJECT = "ann"
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Told:
    """Writes one conversation's stream; each event is a second later than the one before."""

    def __init__(
        self,
        *,
        tenant: TenantId = TENANT,
        subject: str = SUBJECT,
        begins: datetime = NOON,
        **start: Any,
    ) -> None:
        self.id = ConversationId(fresh_id())
        self.tenant, self.subject = tenant, subject
        self.now = begins
        self.recorded: list[Recorded] = []
        self.told = 0
        """How many of them somebody has taken."""
        self.head: NodeId | None = None
        self.say(said.ConversationStarted(conversation=self.id, **start))

    def say(self, event: Event) -> Recorded:
        meta = Meta(self.tenant, "c", "test", self.subject, self.now, fresh_id())
        one = Recorded(fresh_id(), self.id, len(self.recorded) + 1, meta, event)
        self.recorded.append(one)
        self.now += timedelta(seconds=1)
        return one

    def post(
        self, content: str, *, role: Role = Role.USER, parent: Any = "head", **more: Any
    ) -> MessageId:
        message = MessageId(fresh_id())
        at = self.head if parent == "head" else parent
        self.say(
            said.MessagePosted(
                conversation=self.id,
                message=message,
                role=role,
                content=content,
                parent=at,
                **more,
            )
        )
        self.head = message
        return message

    def ask(self, parent: NodeId | None = None, *, model: str = "m") -> AnswerId:
        answer = AnswerId(fresh_id())
        asked_of = parent or self.head
        assert asked_of is not None
        self.say(
            said.AnswerRequested(
                conversation=self.id,
                answer=answer,
                parent=asked_of,
                model=model,
                band=said.Band.DEFAULT,
                deadline_seconds=60,
                sampling=Sampling(max_tokens=10),
            )
        )
        self.head = answer
        return answer

    def end(
        self,
        answer: AnswerId,
        text: str = "Yes.",
        kind: EndKind = EndKind.FINISH,
        reason: str = "stop",
        *,
        error: str | None = None,
        tokens: tuple[int, int] = (3, 2),
    ) -> None:
        self.say(
            said.AnswerEnded(
                conversation=self.id,
                answer=answer,
                kind=kind,
                reason=reason,
                error=error,
                text=text,
                chunk_lengths=(len(text),),
                usage=Usage(prompt_tokens=tokens[0], completion_tokens=tokens[1]),
            )
        )

    def turn(self, content: str, text: str = "Yes.") -> tuple[MessageId, AnswerId]:
        message = self.post(content)
        answer = self.ask()
        self.end(answer, text)
        return message, answer

    def about(self, cls: type[Event], **fields: Any) -> None:
        """Any other event of the conversation."""
        self.say(cls.model_validate({"conversation": self.id, **fields}))


def mixed(conversations: Sequence[Told]) -> list[Recorded]:
    """All their events, turn about, as a log has them."""
    longest = max(len(one.recorded) for one in conversations)
    return [
        one.recorded[at] for at in range(longest) for one in conversations if at < len(one.recorded)
    ]
