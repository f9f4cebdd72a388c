"""What may happen in a conversation."""

from commands.conversations import (
    AskAgain,
    CancelAnswer,
    CompleteOnce,
    MarkRead,
    PostMessage,
    RecordAnswer,
    StartConversation,
)
from commands.errors import (
    AnswerInProgress,
    ConversationExists,
    NothingToAnswer,
    StaleHead,
    UnknownAnswer,
    UnknownConversation,
)
from tests.commands.examples import (
    A2,
    M2,
    NOBODY,
    A,
    C,
    M,
    archived,
    ask,
    asked_again,
    cancel_requested,
    completion_started,
    deleted,
    ended,
    new_message,
    posted,
    read,
    requested,
    started,
)
from tests.commands.gwt import given


def test_a_conversation_starts_once() -> None:
    given().when(StartConversation(C)).then(started)
    given(started).when(StartConversation(C)).refused(ConversationExists(C))


def test_a_message_is_posted_with_the_wish_for_an_answer() -> None:
    given(started).when(PostMessage(C, None, new_message(), ask())).then(posted(), requested())


def test_a_message_to_a_conversation_that_never_started_is_refused() -> None:
    given().when(PostMessage(C, None, new_message(), ask())).refused(UnknownConversation(C))


def test_a_second_message_waits_for_the_answer() -> None:
    given(started, posted(), requested()).when(PostMessage(C, A, new_message(M2), ask(A2))).refused(
        AnswerInProgress(C, A)
    )


def test_a_cancel_that_was_asked_for_is_not_yet_an_end() -> None:
    given(started, posted(), requested(), cancel_requested).when(
        PostMessage(C, A, new_message(M2), ask(A2))
    ).refused(AnswerInProgress(C, A))


def test_after_its_end_an_answer_is_the_next_messages_parent() -> None:
    given(started, posted(), requested(), ended()).when(
        PostMessage(C, A, new_message(M2), ask(A2))
    ).then(posted(M2, parent=A), requested(A2, parent=M2))


def test_a_stale_tab_gets_a_conflict_that_names_both_heads() -> None:
    for stale in (None, M, NOBODY):
        given(started, posted(), requested(), ended()).when(
            PostMessage(C, stale, new_message(M2), ask(A2))
        ).refused(StaleHead(C, stale, A))


def test_a_stateless_call_is_one_append() -> None:
    given().when(CompleteOnce(C, (new_message(), new_message(M2)), ask())).then(
        completion_started, posted(), posted(M2, parent=M), requested(parent=M2)
    )


def test_a_stateless_call_is_a_conversation_of_its_own() -> None:
    given(started).when(CompleteOnce(C, (new_message(),), ask())).refused(ConversationExists(C))


def test_a_stateless_call_needs_a_message() -> None:
    given().when(CompleteOnce(C, (), ask())).refused(NothingToAnswer())


def test_a_cancel_is_recorded_once_and_only_while_the_answer_is_open() -> None:
    cancel = CancelAnswer(C, A)
    given(started, posted(), requested()).when(cancel).then(cancel_requested)
    given(started, posted(), requested(), cancel_requested).when(cancel).nothing_happens()
    given(started, posted(), requested(), ended()).when(cancel).nothing_happens()


def test_an_answer_that_nobody_asked_for_can_not_be_cancelled() -> None:
    given(started, posted(), requested()).when(CancelAnswer(C, A2)).refused(UnknownAnswer(A2))
    given().when(CancelAnswer(C, A)).refused(UnknownAnswer(A))


def test_the_end_that_the_fold_holds_is_recorded_once_also_after_a_cancel() -> None:
    given(started, posted(), requested()).when(RecordAnswer(ended())).then(ended())
    given(started, posted(), requested(), cancel_requested).when(RecordAnswer(ended())).then(
        ended()
    )
    given(started, posted(), requested(), ended()).when(RecordAnswer(ended())).nothing_happens()


def test_the_end_of_an_answer_that_nobody_asked_for_is_refused() -> None:
    given(started).when(RecordAnswer(ended())).refused(UnknownAnswer(A))


def test_an_open_answer_is_asked_for_again_also_where_nobody_talks_any_more() -> None:
    again = AskAgain(C, A, 2)
    given(started, posted(), requested()).when(again).then(asked_again(2))
    given(started, posted(), requested(), asked_again(1)).when(again).then(asked_again(2))
    given(started, posted(), requested(), cancel_requested).when(again).then(asked_again(2))
    given(started, posted(), requested(), archived).when(again).then(asked_again(2))
    given(started, posted(), requested(), deleted).when(again).then(asked_again(2))
    given(completion_started, posted(), requested()).when(again).then(asked_again(2))


def test_an_answer_that_has_ended_is_not_asked_for_again() -> None:
    given(started, posted(), requested(), ended()).when(AskAgain(C, A, 1)).nothing_happens()
    given(started).when(AskAgain(C, A, 1)).refused(UnknownAnswer(A))


def test_asking_again_changes_nothing_but_the_position() -> None:
    given(started, posted(), requested(), asked_again()).when(
        PostMessage(C, A, new_message(M2), ask(A2))
    ).refused(AnswerInProgress(C, A))
    given(started, posted(), requested(), asked_again()).when(RecordAnswer(ended())).then(ended())
    given(started, posted(), requested(), read(3), asked_again()).when(
        MarkRead(C, 5)
    ).nothing_happens()
