"""Whatever commands come, in whatever order: the rules of a conversation hold."""

from dataclasses import replace
from uuid import UUID

from hypothesis import given as for_all
from hypothesis import strategies as st

from commands.conversations import (
    CONVERSATIONS,
    AskAnswer,
    CancelAnswer,
    CompleteOnce,
    Conversation,
    PostMessage,
    RecordAnswer,
    StartConversation,
)
from commands.errors import Refused
from events.conversations import (
    AnswerEnded,
    AnswerRequested,
    ConversationStarted,
    Kind,
    MessagePosted,
)
from events.envelope import Event
from events.ids import AnswerId, MessageId
from tests.commands.examples import C, ask, ended, new_message
from tests.commands.gwt import CONVERSATION_COMMANDS

MESSAGES = [MessageId(UUID(int=100 + n)) for n in range(8)]
ANSWERS = [AnswerId(UUID(int=200 + n)) for n in range(4)]
messages = st.sampled_from(MESSAGES)
answers = st.sampled_from(ANSWERS)
asks: st.SearchStrategy[AskAnswer] = st.builds(ask, answers)
new_messages = st.builds(new_message, messages, st.text(max_size=5))
nodes = st.one_of(st.none(), messages, answers)
commands = st.lists(
    st.one_of(
        st.builds(StartConversation, st.just(C)),
        st.builds(CompleteOnce, st.just(C), st.tuples(new_messages), asks),
        st.builds(PostMessage, st.just(C), nodes, new_messages, asks),
        st.tuples(new_messages, asks),  # a post to whatever is the head by then
        st.builds(CancelAnswer, st.just(C), answers),
        st.builds(RecordAnswer, st.builds(ended, answers)),
    ),
    max_size=25,
)


def decide(state: Conversation, command: object) -> list[Event]:
    """What the command leads to; nothing if it is refused."""
    try:
        return CONVERSATION_COMMANDS[type(command)](state, command)
    except Refused:
        return []


def play(given: list[object]) -> tuple[list[Event], list[Conversation]]:
    """The events that the commands led to, and the state after each."""
    state = CONVERSATIONS.initial
    happened: list[Event] = []
    states = [state]
    used: set[UUID] = set()
    for item in given:
        command = PostMessage(C, state.head, *item) if isinstance(item, tuple) else item
        asks_for = command.ask.answer if isinstance(command, PostMessage | CompleteOnce) else None
        if asks_for in used:
            continue  # ids derive from the command's id, so no two commands share one
        decided = decide(state, command)
        if isinstance(command, PostMessage) and state.id is not None:
            welcome = command.parent == state.head and not state.open_answers
            welcome = welcome and state.kind is Kind.CONVERSATION
            assert bool(decided) == welcome, "a post to a stale head, or beside an open answer"
        for event in decided:
            if isinstance(event, AnswerRequested):
                used.add(event.answer)
            state = CONVERSATIONS.evolve(state, event)
            happened.append(event)
            states.append(state)
    return happened, states


@for_all(commands)
def test_replay_equals_live(given: list[object]) -> None:
    happened, states = play(given)
    replayed = CONVERSATIONS.initial
    for event, live in zip(happened, states[1:], strict=True):
        replayed = CONVERSATIONS.evolve(replayed, event)
        assert replayed == live


@for_all(commands)
def test_without_branches_at_most_one_answer_is_open(given: list[object]) -> None:
    for state in play(given)[1]:
        still_open = tuple(answer for answer in state.answers if answer not in state.ends)
        assert still_open == state.open_answers
        assert len(still_open) <= 1


@for_all(commands)
def test_a_conversation_is_one_branch_without_holes(given: list[object]) -> None:
    happened, _ = play(given)
    head: UUID | None = None
    for place, event in enumerate(happened):
        assert isinstance(event, ConversationStarted) == (place == 0)
        match event:
            case MessagePosted():
                assert event.parent == head
                head = event.message
            case AnswerRequested():
                assert event.parent == head
                head = event.answer


@for_all(commands)
def test_every_end_belongs_to_an_answer_that_was_asked_for_and_comes_once(
    given: list[object],
) -> None:
    happened, _ = play(given)
    wanted = [event.answer for event in happened if isinstance(event, AnswerRequested)]
    got = [event.answer for event in happened if isinstance(event, AnswerEnded)]
    assert len(got) == len(set(got))
    assert set(got) <= set(wanted)


@for_all(commands)
def test_deciding_changes_no_state(given: list[object]) -> None:
    _, states = play(given)
    copies = [replace(state) for state in states]
    play(given)
    assert states == copies
