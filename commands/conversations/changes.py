"""What happens to a conversation as a whole: title, metadata, archive, deletion, read mark.

All of these are idempotent: what is already so needs no event.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from commands.conversations.state import Conversation, there
from commands.errors import ReadBeyondEnd, UnknownConversation
from events.conversations import (
    AnswerCancelRequested,
    ConversationArchived,
    ConversationDeleted,
    ConversationRead,
    ConversationRenamed,
    ConversationUnarchived,
    MetadataReplaced,
)
from events.envelope import Event
from events.ids import ConversationId


@dataclass(frozen=True, slots=True)
class RenameConversation:
    conversation: ConversationId
    title: str | None


@dataclass(frozen=True, slots=True)
class ReplaceMetadata:
    conversation: ConversationId
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ArchiveConversation:
    conversation: ConversationId


@dataclass(frozen=True, slots=True)
class UnarchiveConversation:
    conversation: ConversationId


@dataclass(frozen=True, slots=True)
class DeleteConversation:
    conversation: ConversationId


@dataclass(frozen=True, slots=True)
class MarkRead:
    conversation: ConversationId
    position: int


def rename_conversation(state: Conversation, command: RenameConversation) -> list[Event]:
    id_ = there(state, command.conversation)
    if command.title == state.title:
        return []
    return [ConversationRenamed(conversation=id_, title=command.title)]


def replace_metadata(state: Conversation, command: ReplaceMetadata) -> list[Event]:
    id_ = there(state, command.conversation)
    if command.metadata == state.metadata:
        return []
    return [MetadataReplaced(conversation=id_, metadata=dict(command.metadata))]


def archive_conversation(state: Conversation, command: ArchiveConversation) -> list[Event]:
    """An answer that is being given goes on."""
    id_ = there(state, command.conversation)
    return [] if state.archived else [ConversationArchived(conversation=id_)]


def unarchive_conversation(state: Conversation, command: UnarchiveConversation) -> list[Event]:
    id_ = there(state, command.conversation)
    return [ConversationUnarchived(conversation=id_)] if state.archived else []


def delete_conversation(state: Conversation, command: DeleteConversation) -> list[Event]:
    """Asks in the same step that open answers stop: nobody will read them."""
    if state.id is None:
        raise UnknownConversation(command.conversation)
    if state.deleted:
        return []
    stops = [
        AnswerCancelRequested(conversation=state.id, answer=answer)
        for answer in state.open_answers
        if answer not in state.cancels
    ]
    return [ConversationDeleted(conversation=state.id), *stops]


def mark_read(state: Conversation, command: MarkRead) -> list[Event]:
    """The mark only rises, and only over news: a mark is none, or a client that marks whatever it
    sees would answer its own mark with another one for ever."""
    id_ = there(state, command.conversation)
    if command.position > state.position:
        raise ReadBeyondEnd(id_, command.position, state.position)
    if command.position <= state.read or state.news <= state.read:
        return []
    return [ConversationRead(conversation=id_, position=command.position)]
