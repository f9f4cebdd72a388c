"""One conversation and one tenant to talk about in tests."""

from uuid import UUID

from commands.conversations import AskAnswer, NewMessage
from events.accounts import KeyCreated, KeyRevoked, TenantCreated
from events.conversations import (
    AnswerCancelRequested,
    AnswerEnded,
    AnswerRequested,
    Band,
    ConversationStarted,
    EndKind,
    MessagePosted,
    Role,
    Sampling,
    Usage,
)
from events.ids import AnswerId, ConversationId, KeyId, MessageId, TenantId

C = ConversationId(UUID(int=1))
M = MessageId(UUID(int=10))
A = AnswerId(UUID(int=20))
M2 = MessageId(UUID(int=11))
A2 = AnswerId(UUID(int=21))
NOBODY = UUID(int=99)
T = TenantId(UUID(int=2))
K = KeyId(UUID(int=3))

SAMPLING = Sampling(max_tokens=16)


def ask(answer: AnswerId = A) -> AskAnswer:
    return AskAnswer(answer, "model", Band.DEFAULT, 60, SAMPLING)


def new_message(message: MessageId = M, content: str = "What is a thalweg?") -> NewMessage:
    return NewMessage(message, Role.USER, content)


def posted(message: MessageId = M, parent: UUID | None = None) -> MessagePosted:
    return MessagePosted(
        conversation=C,
        message=message,
        role=Role.USER,
        content="What is a thalweg?",
        parent=parent,
    )


def requested(answer: AnswerId = A, parent: UUID = M) -> AnswerRequested:
    return AnswerRequested(
        conversation=C,
        answer=answer,
        parent=parent,
        model="model",
        band=Band.DEFAULT,
        deadline_seconds=60,
        sampling=SAMPLING,
    )


def ended(answer: AnswerId = A) -> AnswerEnded:
    return AnswerEnded(
        conversation=C,
        answer=answer,
        kind=EndKind.FINISH,
        reason="stop",
        text="A line.",
        chunk_lengths=(7,),
        usage=Usage(),
    )


started = ConversationStarted(conversation=C)
cancel_requested = AnswerCancelRequested(conversation=C, answer=A)
tenant_created = TenantCreated(tenant=T, name="Rivers")
key_created = KeyCreated(tenant=T, key=K, name="laptop", owner="ada", key_hash="00ff")
key_revoked = KeyRevoked(tenant=T, key=K)
