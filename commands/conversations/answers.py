"""Asking for an answer (and again), asking that it stop, and recording how it ended."""

from dataclasses import dataclass

from commands.conversations.state import Conversation, talking
from commands.errors import AnswerInProgress, NotAnswerable, UnknownAnswer, UnknownNode
from events.conversations import (
    AnswerAskedAgain,
    AnswerCancelRequested,
    AnswerEnded,
    AnswerRequested,
    Band,
    Role,
    Sampling,
)
from events.envelope import Event
from events.ids import AnswerId, ConversationId, MessageId, NodeId


@dataclass(frozen=True, slots=True)
class AskAnswer:
    """How the answer that is asked for should be given."""

    answer: AnswerId
    model: str
    band: Band
    deadline_seconds: float
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class RequestAnswer:
    """An answer to a message that is there; another one, if it has some: a branch of its own."""

    conversation: ConversationId
    parent: NodeId
    ask: AskAnswer


@dataclass(frozen=True, slots=True)
class AskAgain:
    """The same answer once more, to whoever takes it now: whoever had it has lost it."""

    conversation: ConversationId
    answer: AnswerId
    times: int


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    conversation: ConversationId
    answer: AnswerId


@dataclass(frozen=True, slots=True)
class RecordAnswer:
    """The end of an answer as the fold has it. Always taken, once: what was shown is recorded."""

    ended: AnswerEnded


def request_answer(state: Conversation, command: RequestAnswer) -> list[Event]:
    id_ = talking(state, command.conversation)
    if not state.has(command.parent):
        raise UnknownNode(id_, command.parent)
    message = state.messages.get(MessageId(command.parent))
    if message is None or message.role is Role.ASSISTANT:
        raise NotAnswerable(id_, command.parent)
    given = state.open_answer_to(command.parent)
    if given is not None:
        raise AnswerInProgress(id_, given)
    return [requested(id_, command.ask, command.parent)]


def ask_again(state: Conversation, command: AskAgain) -> list[Event]:
    """Whatever became of the conversation meanwhile; an answer that has ended needs no event."""
    asked = state.answers.get(command.answer)
    if asked is None:
        raise UnknownAnswer(command.answer)
    if command.answer in state.ends:
        return []
    return [
        AnswerAskedAgain(
            conversation=command.conversation,
            answer=command.answer,
            model=asked.model,
            band=asked.band,
            times=command.times,
        )
    ]


def cancel_answer(state: Conversation, command: CancelAnswer) -> list[Event]:
    """Idempotent: an answer that has ended, or whose cancel was asked for, needs no event."""
    answer = command.answer
    if answer not in state.answers:
        raise UnknownAnswer(answer)
    if answer in state.cancels or answer in state.ends:
        return []
    return [AnswerCancelRequested(conversation=command.conversation, answer=answer)]


def record_answer(state: Conversation, command: RecordAnswer) -> list[Event]:
    """Whatever became of the conversation meanwhile."""
    answer = command.ended.answer
    if answer not in state.answers:
        raise UnknownAnswer(answer)
    return [] if answer in state.ends else [command.ended]


def requested(conversation: ConversationId, ask: AskAnswer, parent: NodeId) -> AnswerRequested:
    return AnswerRequested(
        conversation=conversation,
        answer=ask.answer,
        parent=parent,
        model=ask.model,
        band=ask.band,
        deadline_seconds=ask.deadline_seconds,
        sampling=ask.sampling,
    )
