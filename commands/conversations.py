"""What may happen in a conversation. Pure: time and ids come in with the command."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from commands.errors import (
    AnswerInProgress,
    ConversationExists,
    NothingToAnswer,
    StaleHead,
    UnknownAnswer,
    UnknownConversation,
)
from commands.submit import Decider
from events.conversations import (
    AnswerCancelRequested,
    AnswerEnded,
    AnswerRequested,
    Band,
    ConversationStarted,
    MessagePosted,
    Role,
    Sampling,
)
from events.envelope import Event
from events.ids import AnswerId, ConversationId, MessageId, NodeId


@dataclass(frozen=True, slots=True)
class NewMessage:
    message: MessageId
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class AskAnswer:
    """How the answer that is asked for should be given."""

    answer: AnswerId
    model: str
    band: Band
    deadline_seconds: float
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class StartConversation:
    conversation: ConversationId


@dataclass(frozen=True, slots=True)
class CompleteOnce:
    """A stateless call: a conversation of its own, with all its messages and one answer."""

    conversation: ConversationId
    messages: tuple[NewMessage, ...]
    ask: AskAnswer


@dataclass(frozen=True, slots=True)
class PostMessage:
    """A message at the head of the conversation, and the wish for an answer to it."""

    conversation: ConversationId
    parent: NodeId | None
    message: NewMessage
    ask: AskAnswer


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    conversation: ConversationId
    answer: AnswerId


@dataclass(frozen=True, slots=True)
class RecordAnswer:
    """The end of an answer as the fold has it. Always taken, once: what was shown is recorded."""

    ended: AnswerEnded


@dataclass(frozen=True, slots=True)
class AnswerState:
    requested: AnswerRequested
    cancel_requested: bool = False
    ended: AnswerEnded | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """What deciding needs to know of a conversation."""

    id: ConversationId | None = None
    head: NodeId | None = None
    answering: AnswerId | None = None
    messages: Mapping[NodeId, MessagePosted] = field(default_factory=dict)
    answers: Mapping[NodeId, AnswerState] = field(default_factory=dict)


def start_conversation(state: Conversation, command: StartConversation) -> list[Event]:
    if state.id is not None:
        raise ConversationExists(state.id)
    return [ConversationStarted(conversation=command.conversation)]


def complete_once(state: Conversation, command: CompleteOnce) -> list[Event]:
    if not command.messages:
        raise NothingToAnswer
    events = start_conversation(state, StartConversation(command.conversation))
    parents = (None, *(message.message for message in command.messages))
    for message, parent in zip(command.messages, parents, strict=False):
        events.append(_posted(command.conversation, message, parent))
    last = command.messages[-1].message
    return [*events, _requested(command.conversation, command.ask, last)]


def post_message(state: Conversation, command: PostMessage) -> list[Event]:
    if state.id is None:
        raise UnknownConversation(command.conversation)
    if state.answering is not None:
        raise AnswerInProgress(state.id, state.answering)
    if command.parent != state.head:
        raise StaleHead(state.id, command.parent, state.head)
    return [
        _posted(state.id, command.message, command.parent),
        _requested(state.id, command.ask, command.message.message),
    ]


def cancel_answer(state: Conversation, command: CancelAnswer) -> list[Event]:
    """Idempotent: an answer that has ended, or whose cancel was asked for, needs no event."""
    answer = state.answers.get(command.answer)
    if answer is None:
        raise UnknownAnswer(command.answer)
    if answer.cancel_requested or answer.ended is not None:
        return []
    return [AnswerCancelRequested(conversation=command.conversation, answer=command.answer)]


def record_answer(state: Conversation, command: RecordAnswer) -> list[Event]:
    answer = state.answers.get(command.ended.answer)
    if answer is None:
        raise UnknownAnswer(command.ended.answer)
    if answer.ended is not None:
        return []
    return [command.ended]


def evolve(state: Conversation, event: Event) -> Conversation:
    match event:
        case ConversationStarted():
            return replace(state, id=event.conversation)
        case MessagePosted():
            messages = {**state.messages, event.message: event}
            return replace(state, head=event.message, messages=messages)
        case AnswerRequested():
            answers = {**state.answers, event.answer: AnswerState(event)}
            return replace(state, head=event.answer, answering=event.answer, answers=answers)
        case AnswerCancelRequested():
            return _with_answer(state, event.answer, cancel_requested=True)
        case AnswerEnded():
            return replace(_with_answer(state, event.answer, ended=event), answering=None)
    return state


CONVERSATIONS: Decider[Conversation] = Decider(Conversation(), evolve)


def _with_answer(
    state: Conversation,
    answer: AnswerId,
    *,
    cancel_requested: bool | None = None,
    ended: AnswerEnded | None = None,
) -> Conversation:
    known = state.answers[answer]
    changed = replace(
        known,
        cancel_requested=known.cancel_requested if cancel_requested is None else cancel_requested,
        ended=ended or known.ended,
    )
    return replace(state, answers={**state.answers, answer: changed})


def _posted(
    conversation: ConversationId, message: NewMessage, parent: NodeId | None
) -> MessagePosted:
    return MessagePosted(
        conversation=conversation,
        message=message.message,
        role=message.role,
        content=message.content,
        parent=parent,
    )


def _requested(conversation: ConversationId, ask: AskAnswer, parent: NodeId) -> AnswerRequested:
    return AnswerRequested(
        conversation=conversation,
        answer=ask.answer,
        parent=parent,
        model=ask.model,
        band=ask.band,
        deadline_seconds=ask.deadline_seconds,
        sampling=ask.sampling,
    )
