"""One conversation and one tenant to talk about in tests."""

from uuid import UUID

from commands.conversations import AskAnswer, NewMessage
from events.accounts import KeyCreated, KeyRevoked, TenantCreated
from events.conversations import (
    AnswerAskedAgain,
    AnswerCancelRequested,
    AnswerEnded,
    AnswerRequested,
    Attachment,
    Band,
    BranchChosen,
    ConversationArchived,
    ConversationDeleted,
    ConversationRead,
    ConversationStarted,
    ConversationUnarchived,
    EndKind,
    Kind,
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
M3 = MessageId(UUID(int=12))
A3 = AnswerId(UUID(int=22))
NOBODY = UUID(int=99)
T = TenantId(UUID(int=2))
K = KeyId(UUID(int=3))

SAMPLING = Sampling(max_tokens=16)


def ask(answer: AnswerId = A) -> AskAnswer:
    return AskAnswer(answer, "model", Band.DEFAULT, 60, SAMPLING)


def new_message(
    message: MessageId = M, content: str = "What is a thalweg?", role: Role = Role.USER
) -> NewMessage:
    return NewMessage(message, role, content)


def posted(
    message: MessageId = M,
    parent: UUID | None = None,
    edits: MessageId | None = None,
    role: Role = Role.USER,
    attachments: tuple[Attachment, ...] = (),
) -> MessagePosted:
    return MessagePosted(
        conversation=C,
        message=message,
        role=role,
        content="What is a thalweg?",
        parent=parent,
        attachments=attachments,
        edits=edits,
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


def asked_again(times: int = 1, answer: AnswerId = A) -> AnswerAskedAgain:
    return AnswerAskedAgain(
        conversation=C, answer=answer, model="model", band=Band.DEFAULT, times=times
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


def chosen(head: UUID) -> BranchChosen:
    return BranchChosen(conversation=C, head=head)


def read(position: int) -> ConversationRead:
    return ConversationRead(conversation=C, position=position)


started = ConversationStarted(conversation=C)
completion_started = ConversationStarted(conversation=C, kind=Kind.COMPLETION)
archived = ConversationArchived(conversation=C)
unarchived = ConversationUnarchived(conversation=C)
deleted = ConversationDeleted(conversation=C)
cancel_requested = AnswerCancelRequested(conversation=C, answer=A)
tenant_created = TenantCreated(tenant=T, name="Rivers")
key_created = KeyCreated(tenant=T, key=K, name="laptop", owner="ada", key_hash="00ff")
key_revoked = KeyRevoked(tenant=T, key=K)
