"""What may happen in a conversation. Pure: time and ids come in with the command.

Messages and answers are nodes of a tree. The head is the last node of the branch that is shown, and
always the last one of some branch. A post goes on from the head; an edit, another answer and the
choice of a branch are the deliberate ways to others. One answer at a time is given on a branch.
"""

from commands.conversations.answers import (
    AskAgain,
    AskAnswer,
    CancelAnswer,
    RecordAnswer,
    RequestAnswer,
    ask_again,
    cancel_answer,
    record_answer,
    request_answer,
)
from commands.conversations.branches import ChooseBranch, choose_branch
from commands.conversations.changes import (
    ArchiveConversation,
    DeleteConversation,
    MarkRead,
    RenameConversation,
    ReplaceMetadata,
    UnarchiveConversation,
    archive_conversation,
    delete_conversation,
    mark_read,
    rename_conversation,
    replace_metadata,
    unarchive_conversation,
)
from commands.conversations.messages import NewMessage, PostMessage, post_message
from commands.conversations.start import (
    CompleteOnce,
    StartConversation,
    complete_once,
    start_conversation,
)
from commands.conversations.state import CONVERSATIONS, Conversation, evolve

__all__ = [
    "CONVERSATIONS",
    "ArchiveConversation",
    "AskAgain",
    "AskAnswer",
    "CancelAnswer",
    "ChooseBranch",
    "CompleteOnce",
    "Conversation",
    "DeleteConversation",
    "MarkRead",
    "NewMessage",
    "PostMessage",
    "RecordAnswer",
    "RenameConversation",
    "ReplaceMetadata",
    "RequestAnswer",
    "StartConversation",
    "UnarchiveConversation",
    "archive_conversation",
    "ask_again",
    "cancel_answer",
    "choose_branch",
    "complete_once",
    "delete_conversation",
    "evolve",
    "mark_read",
    "post_message",
    "record_answer",
    "rename_conversation",
    "replace_metadata",
    "request_answer",
    "start_conversation",
    "unarchive_conversation",
]
