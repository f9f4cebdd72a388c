"""Whatever commands come, in whatever order: the deciders do what a plain model says."""

from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from commands.conversations import (
    CONVERSATIONS,
    ArchiveConversation,
    AskAgain,
    CancelAnswer,
    ChooseBranch,
    CompleteOnce,
    DeleteConversation,
    MarkRead,
    NewMessage,
    PostMessage,
    RecordAnswer,
    RenameConversation,
    ReplaceMetadata,
    RequestAnswer,
    StartConversation,
    UnarchiveConversation,
)
from commands.errors import Refused
from events.conversations import (
    AnswerAskedAgain,
    AnswerCancelRequested,
    AnswerEnded,
    AnswerRequested,
    BranchChosen,
    ConversationArchived,
    ConversationDeleted,
    ConversationRead,
    ConversationRenamed,
    ConversationStarted,
    ConversationUnarchived,
    MessagePosted,
    MetadataReplaced,
    Role,
)
from events.envelope import Event
from events.ids import AnswerId, MessageId
from tests.commands.examples import NOBODY, C, ask, ended
from tests.commands.gwt import CONVERSATION_COMMANDS
from tests.commands.plain_model import Plain, Verdict

titles = st.sampled_from([None, "Rivers", "Lakes"])
metadatas = st.sampled_from([{}, {"a": "b"}, {"c": "d"}])
roles = st.sampled_from([Role.USER, Role.SYSTEM])
picks = st.integers(0, 1_000)
"""Which of the nodes, from the newest."""


def in_words(event: Event) -> tuple[object, ...]:
    match event:
        case ConversationStarted():
            return "started", event.kind.value, event.title, event.metadata
        case MessagePosted():
            return "posted", event.message, event.role.value, event.parent, event.edits
        case AnswerRequested():
            return "asked", event.answer, event.parent
        case AnswerAskedAgain():
            return "insisted", event.answer, event.times
        case AnswerCancelRequested():
            return "stop", event.answer
        case AnswerEnded():
            return "ended", event.answer
        case BranchChosen():
            return "chosen", event.head
        case ConversationRenamed():
            return "renamed", event.title
        case MetadataReplaced():
            return "described", event.metadata
        case ConversationArchived():
            return ("archived",)
        case ConversationUnarchived():
            return ("unarchived",)
        case ConversationDeleted():
            return ("deleted",)
        case ConversationRead():
            return "read", event.position
    raise AssertionError(event)


class Conversations(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.state = CONVERSATIONS.initial
        self.plain = Plain()
        self.events: list[Event] = []
        self.ids = 1_000

    # What each rule needs.

    def fresh(self) -> UUID:
        self.ids += 1
        return UUID(int=self.ids)

    def message(self, role: Role = Role.USER) -> NewMessage:
        return NewMessage(MessageId(self.fresh()), role, "Hi")

    def node(self, pick: int) -> UUID:
        """A node that there is, if there is any, or now and then one that there is not."""
        known = [*reversed(self.plain.nodes), NOBODY]
        return known[pick % len(known)]

    def comes(self, command: Any, wanted: Verdict) -> None:
        """The command is decided, the verdict compared, and what happens takes place."""
        got: list[Event] | Refused
        try:
            got = CONVERSATION_COMMANDS[type(command)](self.state, command)
        except Refused as error:
            got = error
        if isinstance(got, Refused):
            assert type(got).__name__ == wanted, got
            assert str(got)  # a sentence for people
            return
        assert [in_words(event) for event in got] == wanted
        for event in got:
            assert event.conversation == C  # type: ignore[attr-defined]
            self.state = CONVERSATIONS.evolve(self.state, event)
            self.events.append(event)
            self.plain.happened(*in_words(event))  # type: ignore[arg-type]

    # What clients and the recorder send.

    @initialize(begun=st.sampled_from(["not", "empty", "empty", "empty", "completion"]))
    def begins(self, begun: str) -> None:
        if begun == "completion":
            self.completes(2)
        elif begun == "empty":
            self.starts(None, {}, False)

    @rule(title=titles, metadata=metadatas, system=st.booleans())
    def starts(self, title: str | None, metadata: dict[str, str], system: bool) -> None:
        told = self.message(Role.SYSTEM) if system else None
        self.comes(
            StartConversation(C, title, metadata, system=told),
            self.plain.start(title, metadata, told and told.message),
        )

    @rule(count=st.integers(0, 3))
    def completes(self, count: int) -> None:
        messages, answer = tuple(self.message() for _ in range(count)), AnswerId(self.fresh())
        self.comes(
            CompleteOnce(C, messages, ask(answer)),
            self.plain.complete([one.message for one in messages], answer),
        )

    @rule(role=roles, asks=st.booleans(), at_head=st.booleans(), pick=picks)
    def posts(self, role: Role, asks: bool, at_head: bool, pick: int) -> None:
        elsewhere = self.node(pick) if pick % 3 else None
        self.says(role, asks, self.plain.shown if at_head else elsewhere)

    @rule()
    def talks_on(self) -> None:
        """The way of most users: the answer ends, and the next message follows."""
        if self.plain.shown in self.plain.open_answers():
            self.ends_what_is_shown()
        self.says(Role.USER, True, self.plain.shown)

    def says(self, role: Role, asks: bool, parent: UUID | None) -> None:
        message, answer = self.message(role), AnswerId(self.fresh()) if asks else None
        self.comes(
            PostMessage(C, parent, message, ask(answer) if answer else None),
            self.plain.post(message.message, role.value, parent, answer),
        )

    @rule(role=roles, asks=st.booleans(), pick=picks, right=st.integers(0, 3))
    def edits(self, role: Role, asks: bool, pick: int, right: int) -> None:
        edited = MessageId(self.node(pick))
        known = self.plain.nodes.get(edited)
        parent = known.parent if known and right else self.node(pick + 1)
        if known and known.said_by != "answer" and right > 1:
            role = Role(known.said_by)
        message, answer = self.message(role), AnswerId(self.fresh()) if asks else None
        self.comes(
            PostMessage(C, parent, message, ask(answer) if answer else None, edited),
            self.plain.edit(message.message, role.value, parent, edited, answer),
        )

    @rule(pick=picks)
    def asks_again(self, pick: int) -> None:
        answer, parent = AnswerId(self.fresh()), self.node(pick)
        self.comes(RequestAnswer(C, parent, ask(answer)), self.plain.answer(answer, parent))

    @rule(pick=picks)
    def cancels(self, pick: int) -> None:
        answer = AnswerId(self.plain.shown or NOBODY) if pick % 2 else AnswerId(self.node(pick))
        self.comes(CancelAnswer(C, answer), self.plain.cancel(answer))

    @rule(pick=picks, times=st.integers(1, 3))
    def insists(self, pick: int, times: int) -> None:
        answer = AnswerId(self.node(pick))
        self.comes(AskAgain(C, answer, times), self.plain.insist(answer, times))

    @rule(pick=picks)
    def ends(self, pick: int) -> None:
        answer = AnswerId(self.node(pick))
        self.comes(RecordAnswer(ended(answer)), self.plain.record(answer))

    @rule()
    def ends_what_is_shown(self) -> None:
        answer = AnswerId(self.plain.shown or NOBODY)
        self.comes(RecordAnswer(ended(answer)), self.plain.record(answer))

    @rule(pick=picks)
    def chooses(self, pick: int) -> None:
        head = self.node(pick)
        self.comes(ChooseBranch(C, head), self.plain.choose(head))

    @rule(pick=picks)
    def chooses_a_last_node(self, pick: int) -> None:
        last = [one for one in self.plain.nodes if not self.plain.below(one)] or [NOBODY]
        head = last[pick % len(last)]
        self.comes(ChooseBranch(C, head), self.plain.choose(head))

    @rule(title=titles)
    def renames(self, title: str | None) -> None:
        self.comes(RenameConversation(C, title), self.plain.rename(title))

    @rule(metadata=metadatas)
    def describes(self, metadata: dict[str, str]) -> None:
        self.comes(ReplaceMetadata(C, metadata), self.plain.describe(metadata))

    @rule(archived=st.sampled_from([True, False, False]))
    def archives(self, archived: bool) -> None:
        command = ArchiveConversation(C) if archived else UnarchiveConversation(C)
        self.comes(command, self.plain.put_away(archived))

    @rule(now=st.integers(0, 3))
    def deletes(self, now: int) -> None:
        if now == 0:  # not often: little happens afterwards
            self.comes(DeleteConversation(C), self.plain.delete())

    @rule(back=st.sampled_from([-1, 0, 0, 0, 1, 2, 4]), times=st.integers(1, 2))
    def reads(self, back: int, times: int) -> None:
        for _ in range(times):
            position = max(1, len(self.events) - back)
            self.comes(MarkRead(C, position), self.plain.mark(position))

    # What always holds.

    @invariant()
    def the_state_is_what_the_model_says(self) -> None:
        state, plain = self.state, self.plain
        assert (state.head, state.title, state.metadata) == (
            plain.shown,
            plain.title,
            plain.metadata,
        )
        assert (state.archived, state.deleted, state.read) == (
            plain.archived,
            plain.deleted,
            plain.read,
        )
        assert list(state.open_answers) == plain.open_answers()
        assert {*state.messages, *state.answers} == set(plain.nodes)
        assert state.position == len(plain.log)

    @invariant()
    def one_answer_at_a_time_is_given_on_a_branch(self) -> None:
        for node in self.plain.nodes:
            assert sum(one.open for one in self.plain.path(node)) <= 1

    @invariant()
    def the_head_is_the_last_node_of_its_branch(self) -> None:
        assert self.plain.shown is None or not self.plain.below(self.plain.shown)

    @invariant()
    def what_is_deleted_is_told_to_stop(self) -> None:
        if self.plain.deleted:
            assert all(self.plain.nodes[one].stopping for one in self.plain.open_answers())

    def teardown(self) -> None:
        replayed = CONVERSATIONS.initial
        for event in self.events:
            replayed = CONVERSATIONS.evolve(replayed, event)
        assert replayed == self.state


Conversations.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestConversations = Conversations.TestCase
