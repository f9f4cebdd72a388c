"""Given what has happened, when a command comes, then this happens (or it is refused).

given(event, ...).when(command).then(event, ...) / .nothing_happens() / .refused(error)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from commands import accounts, conversations
from commands.errors import Refused
from commands.submit import Decider
from events.envelope import Event

Decide = Callable[[Any, Any], list[Event]]

CONVERSATION_COMMANDS: dict[type, Decide] = {
    conversations.StartConversation: conversations.start_conversation,
    conversations.CompleteOnce: conversations.complete_once,
    conversations.PostMessage: conversations.post_message,
    conversations.RequestAnswer: conversations.request_answer,
    conversations.ChooseBranch: conversations.choose_branch,
    conversations.RenameConversation: conversations.rename_conversation,
    conversations.ReplaceMetadata: conversations.replace_metadata,
    conversations.ArchiveConversation: conversations.archive_conversation,
    conversations.UnarchiveConversation: conversations.unarchive_conversation,
    conversations.DeleteConversation: conversations.delete_conversation,
    conversations.MarkRead: conversations.mark_read,
    conversations.AskAgain: conversations.ask_again,
    conversations.CancelAnswer: conversations.cancel_answer,
    conversations.RecordAnswer: conversations.record_answer,
}
ACCOUNT_COMMANDS: dict[type, Decide] = {
    accounts.CreateTenant: accounts.create_tenant,
    accounts.CreateKey: accounts.create_key,
    accounts.RevokeKey: accounts.revoke_key,
}


def decider_of(command: object) -> tuple[Decider[Any], Decide]:
    if type(command) in CONVERSATION_COMMANDS:
        return conversations.CONVERSATIONS, CONVERSATION_COMMANDS[type(command)]
    return accounts.ACCOUNTS, ACCOUNT_COMMANDS[type(command)]


def decide(events: tuple[Event, ...] | list[Event], command: object) -> list[Event]:
    """What the command makes of a stream with these events. Raises Refused."""
    decider, decision = decider_of(command)
    state = decider.initial
    for event in events:
        state = decider.evolve(state, event)
    return decision(state, command)


@dataclass(frozen=True)
class Outcome:
    events: list[Event] | None
    error: Refused | None

    def then(self, *expected: Event) -> None:
        assert self.error is None, f"refused: {self.error}"
        assert self.events == list(expected)

    def nothing_happens(self) -> None:
        self.then()

    def refused(self, expected: Refused) -> None:
        assert self.error is not None, f"accepted: {self.events}"
        assert (type(self.error), vars(self.error)) == (type(expected), vars(expected))
        assert str(self.error)  # a sentence for people


@dataclass(frozen=True)
class Given:
    events: tuple[Event, ...]

    def when(self, command: object) -> Outcome:
        try:
            return Outcome(decide(self.events, command), None)
        except Refused as error:
            return Outcome(None, error)


def given(*events: Event) -> Given:
    return Given(events)
