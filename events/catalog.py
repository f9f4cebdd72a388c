"""Every event type there is. A type that is not listed here is refused, wherever it comes from."""

from events import accounts, conversations
from events.envelope import Event

EVENT_CLASSES: tuple[type[Event], ...] = (
    accounts.TenantCreated,
    accounts.KeyCreated,
    accounts.KeyRevoked,
    conversations.ConversationStarted,
    conversations.ConversationRenamed,
    conversations.MetadataReplaced,
    conversations.ConversationArchived,
    conversations.ConversationUnarchived,
    conversations.ConversationDeleted,
    conversations.ConversationRead,
    conversations.BranchChosen,
    conversations.MessagePosted,
    conversations.AnswerRequested,
    conversations.AnswerAskedAgain,
    conversations.AnswerCancelRequested,
    conversations.AnswerEnded,
)

BY_TYPE: dict[str, type[Event]] = {cls.TYPE: cls for cls in EVENT_CLASSES}

CONTEXTS: tuple[str, ...] = ("accounts", "conversations")
"""Those that write today; files and training follow with their issues."""
