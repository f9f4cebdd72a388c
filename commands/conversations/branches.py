"""The choice of the branch that is shown, and that the next message goes on."""

from dataclasses import dataclass

from commands.conversations.state import Conversation, there
from commands.errors import BranchGoesOn, UnknownNode
from events.conversations import BranchChosen
from events.envelope import Event
from events.ids import ConversationId, NodeId


@dataclass(frozen=True, slots=True)
class ChooseBranch:
    conversation: ConversationId
    head: NodeId
    """The last node of the branch. One that others follow is refused: either the sender has not
    seen those yet, or a post to it would begin a branch that nobody asked for."""


def choose_branch(state: Conversation, command: ChooseBranch) -> list[Event]:
    """Idempotent: the branch that is shown needs no event."""
    id_ = there(state, command.conversation)
    if not state.has(command.head):
        raise UnknownNode(id_, command.head)
    if command.head in state.followed:
        raise BranchGoesOn(id_, command.head, state.followed[command.head])
    if command.head == state.head:
        return []
    return [BranchChosen(conversation=id_, head=command.head)]
