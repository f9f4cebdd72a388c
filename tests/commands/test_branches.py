"""Edits, further answers, the choice of a branch, messages that nobody is to answer."""

from uuid import UUID

import pytest

from commands.conversations import (
    ChooseBranch,
    PostMessage,
    RecordAnswer,
    RequestAnswer,
    StartConversation,
)
from commands.conversations.state import NODES_MAX
from commands.errors import (
    AnswerInProgress,
    ArchivedConversation,
    BranchGoesOn,
    CompletionClosed,
    ConversationFull,
    DeletedConversation,
    EditElsewhere,
    EditOfAnotherRole,
    NotAnswerable,
    Refused,
    StaleHead,
    UnknownConversation,
    UnknownMessage,
    UnknownNode,
)
from events.conversations import Attachment, Role
from events.envelope import Event
from events.ids import MessageId
from tests.commands.examples import (
    A2,
    A3,
    M2,
    M3,
    NOBODY,
    A,
    C,
    M,
    archived,
    ask,
    chosen,
    completion_started,
    deleted,
    ended,
    new_message,
    posted,
    requested,
    started,
)
from tests.commands.gwt import given

TURN = (started, posted(), requested(), ended())
EDITED = (*TURN, posted(M2, edits=M), requested(A2, parent=M2))
EDIT = PostMessage(C, None, new_message(M2), ask(A2), edits=M)
AGAIN = RequestAnswer(C, M, ask(A2))


def test_an_edit_is_a_sibling_of_what_it_edits() -> None:
    given(*TURN).when(EDIT).then(posted(M2, edits=M), requested(A2, parent=M2))
    later = (posted(M2, parent=A), requested(A2, parent=M2), ended(A2))
    given(*TURN, *later).when(PostMessage(C, A, new_message(M3), ask(A3), edits=M2)).then(
        posted(M3, parent=A, edits=M2), requested(A3, parent=M3)
    )


def test_an_edit_may_come_while_the_answer_runs_and_the_answer_goes_on() -> None:
    running = (started, posted(), requested())
    given(*running).when(EDIT).then(posted(M2, edits=M), requested(A2, parent=M2))
    given(*running, posted(M2, edits=M), requested(A2, parent=M2)).when(RecordAnswer(ended())).then(
        ended()
    )


def test_an_edit_of_an_edit_is_one_more_sibling() -> None:
    given(*EDITED).when(PostMessage(C, None, new_message(M3), ask(A3), edits=M2)).then(
        posted(M3, edits=M2), requested(A3, parent=M3)
    )


def test_after_an_edit_its_branch_is_the_one_that_goes_on() -> None:
    given(*EDITED, ended(A2)).when(PostMessage(C, A2, new_message(M3), ask(A3))).then(
        posted(M3, parent=A2), requested(A3, parent=M3)
    )
    given(*EDITED, ended(A2)).when(PostMessage(C, A, new_message(M3), ask(A3))).refused(
        StaleHead(C, A, A2)
    )
    given(*EDITED).when(PostMessage(C, A2, new_message(M3), ask(A3))).refused(
        AnswerInProgress(C, A2)
    )


def test_an_edit_names_a_message_and_its_parent_and_keeps_the_role() -> None:
    for edits in (NOBODY, A):  # an answer is not edited
        given(*TURN).when(PostMessage(C, None, new_message(M2), ask(A2), edits=edits)).refused(
            UnknownMessage(C, edits)
        )
    given(*TURN).when(PostMessage(C, A, new_message(M2), ask(A2), edits=M)).refused(
        EditElsewhere(C, M, A, None)
    )
    other = new_message(M2, role=Role.SYSTEM)
    given(*TURN).when(PostMessage(C, None, other, None, edits=M)).refused(
        EditOfAnotherRole(C, M, "user")
    )


def test_a_message_is_answered_again_on_a_branch_of_its_own() -> None:
    given(*TURN).when(AGAIN).then(requested(A2, parent=M))
    given(*TURN, requested(A2, parent=M), ended(A2)).when(
        PostMessage(C, A2, new_message(M2), ask(A3))
    ).then(posted(M2, parent=A2), requested(A3, parent=M2))


def test_a_message_in_the_middle_is_answered_again_while_the_last_one_is_being_answered() -> None:
    given(*TURN, posted(M2, parent=A), requested(A2, parent=M2)).when(
        RequestAnswer(C, M, ask(A3))
    ).then(requested(A3, parent=M))


def test_a_message_has_one_open_answer_at_a_time() -> None:
    given(started, posted(), requested()).when(AGAIN).refused(AnswerInProgress(C, A))
    given(*TURN, requested(A2, parent=M)).when(RequestAnswer(C, M, ask(A3))).refused(
        AnswerInProgress(C, A2)
    )


def test_a_message_that_got_no_answer_may_be_answered_later() -> None:
    given(started, posted()).when(AGAIN).then(requested(A2, parent=M))
    given(started, posted(role=Role.SYSTEM)).when(AGAIN).then(requested(A2, parent=M))


def test_only_what_a_user_or_the_system_said_is_answered() -> None:
    given(*TURN).when(RequestAnswer(C, A, ask(A2))).refused(NotAnswerable(C, A))
    given(*TURN).when(RequestAnswer(C, NOBODY, ask(A2))).refused(UnknownNode(C, NOBODY))
    said = posted(M2, parent=M, role=Role.ASSISTANT)  # in calls of the first version's streams
    given(started, posted(), said).when(RequestAnswer(C, M2, ask(A2))).refused(NotAnswerable(C, M2))


def test_a_branch_is_chosen_and_gone_on_with() -> None:
    given(*EDITED).when(ChooseBranch(C, A)).then(chosen(A))
    given(*EDITED, chosen(A)).when(PostMessage(C, A, new_message(M3), ask(A3))).then(
        posted(M3, parent=A), requested(A3, parent=M3)
    )
    given(*EDITED, chosen(A)).when(ChooseBranch(C, A2)).then(chosen(A2))  # also while it runs


def test_the_branch_that_is_shown_needs_no_choice() -> None:
    given(*EDITED).when(ChooseBranch(C, A2)).nothing_happens()


def test_a_branch_is_chosen_by_its_last_node() -> None:
    given(*EDITED).when(ChooseBranch(C, M)).refused(BranchGoesOn(C, M, A))
    given(*EDITED).when(ChooseBranch(C, NOBODY)).refused(UnknownNode(C, NOBODY))


def test_a_conversation_starts_with_a_system_message() -> None:
    system = new_message(role=Role.SYSTEM)
    given().when(StartConversation(C, system=system)).then(started, posted(role=Role.SYSTEM))
    given(started, posted(role=Role.SYSTEM)).when(PostMessage(C, M, new_message(M2), ask(A2))).then(
        posted(M2, parent=M), requested(A2, parent=M2)
    )


def test_a_message_that_nobody_is_to_answer_is_posted_at_the_head_too() -> None:
    system = new_message(M2, role=Role.SYSTEM)
    given(*TURN).when(PostMessage(C, A, system, None)).then(posted(M2, parent=A, role=Role.SYSTEM))
    given(*TURN).when(PostMessage(C, M, system, None)).refused(StaleHead(C, M, A))
    given(started, posted(), requested()).when(PostMessage(C, A, system, None)).refused(
        AnswerInProgress(C, A)
    )


def test_attachments_are_kept_with_the_message() -> None:
    attachments = (Attachment(uri="s3://files/a", name="a"),)
    message = new_message()
    given(started).when(
        PostMessage(C, None, type(message)(M, Role.USER, message.content, attachments), ask())
    ).then(posted(attachments=attachments), requested())


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ((), UnknownConversation(C)),
        ((*TURN, archived), ArchivedConversation(C)),
        ((*TURN, deleted), DeletedConversation(C)),
        ((*TURN, archived, deleted), DeletedConversation(C)),
        ((completion_started, posted(), requested(), ended()), CompletionClosed(C)),
    ],
)
def test_what_takes_no_messages_takes_no_edits_and_gives_no_further_answers(
    events: tuple[Event, ...], why: Refused
) -> None:
    for command in (PostMessage(C, A, new_message(M2), ask(A2)), EDIT, AGAIN):
        given(*events).when(command).refused(why)


def test_a_full_conversation_takes_nothing_more_on_any_branch() -> None:
    nodes = [MessageId(UUID(int=number)) for number in range(1_000, 1_000 + NODES_MAX - 2)]
    below = [M, *nodes]
    chain = [posted(node, parent=parent) for node, parent in zip(nodes, below, strict=False)]
    almost = (started, posted(), requested(), ended(), *chain[:-1])
    last = chain[-1]
    given(*almost).when(RequestAnswer(C, M, ask(A2))).then(requested(A2, parent=M))
    for command in (PostMessage(C, nodes[-1], new_message(M2), ask(A2)), EDIT, AGAIN):
        given(*almost, last).when(command).refused(ConversationFull(C, NODES_MAX))
