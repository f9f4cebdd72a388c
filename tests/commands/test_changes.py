"""What happens to a conversation as a whole: title, metadata, archive, deletion, read mark."""

from typing import Any

import pytest

from commands.conversations import (
    ArchiveConversation,
    CancelAnswer,
    ChooseBranch,
    CompleteOnce,
    DeleteConversation,
    MarkRead,
    PostMessage,
    RecordAnswer,
    RenameConversation,
    ReplaceMetadata,
    StartConversation,
    UnarchiveConversation,
)
from commands.errors import DeletedConversation, ReadBeyondEnd, UnknownConversation
from events.conversations import (
    AnswerCancelRequested,
    ConversationRenamed,
    ConversationStarted,
    Kind,
    MetadataReplaced,
)
from tests.commands.examples import (
    A2,
    A3,
    M2,
    M3,
    A,
    C,
    M,
    archived,
    ask,
    cancel_requested,
    completion_started,
    deleted,
    ended,
    new_message,
    posted,
    read,
    requested,
    started,
    unarchived,
)
from tests.commands.gwt import given

ASKED = (started, posted(), requested())


def renamed(title: str | None) -> ConversationRenamed:
    return ConversationRenamed(conversation=C, title=title)


def described(**metadata: str) -> MetadataReplaced:
    return MetadataReplaced(conversation=C, metadata=metadata)


def test_a_conversation_starts_with_what_is_said_of_it() -> None:
    given().when(StartConversation(C, "Rivers", {"team": "maps"}, stored=False)).then(
        ConversationStarted(conversation=C, title="Rivers", metadata={"team": "maps"}, stored=False)
    )


def test_a_stateless_call_keeps_its_metadata() -> None:
    call = CompleteOnce(C, (new_message(),), ask(), {"team": "maps"}, stored=False)
    begun = ConversationStarted(
        conversation=C, kind=Kind.COMPLETION, metadata={"team": "maps"}, stored=False
    )
    given().when(call).then(begun, posted(), requested())


def test_a_title_is_given_and_taken_away() -> None:
    given(started).when(RenameConversation(C, "Rivers")).then(renamed("Rivers"))
    given(started, renamed("Rivers")).when(RenameConversation(C, None)).then(renamed(None))
    given(started, renamed("Rivers")).when(RenameConversation(C, "Rivers")).nothing_happens()
    given(started).when(RenameConversation(C, None)).nothing_happens()


def test_metadata_is_replaced_as_a_whole() -> None:
    given(started, described(a="b")).when(ReplaceMetadata(C, {"c": "d"})).then(described(c="d"))
    given(started, described(a="b")).when(ReplaceMetadata(C, {})).then(described())
    given(started, described(a="b")).when(ReplaceMetadata(C, {"a": "b"})).nothing_happens()


def test_metadata_of_a_completion_is_replaced_too() -> None:
    given(completion_started, posted(), requested()).when(ReplaceMetadata(C, {"a": "b"})).then(
        described(a="b")
    )


def test_a_conversation_is_archived_and_taken_out_again() -> None:
    given(started).when(ArchiveConversation(C)).then(archived)
    given(started, archived).when(ArchiveConversation(C)).nothing_happens()
    given(started, archived).when(UnarchiveConversation(C)).then(unarchived)
    given(started).when(UnarchiveConversation(C)).nothing_happens()
    given(started, archived, unarchived).when(PostMessage(C, None, new_message(), ask())).then(
        posted(), requested()
    )


def test_an_answer_goes_on_in_the_archive() -> None:
    given(*ASKED, archived).when(RecordAnswer(ended())).then(ended())
    given(*ASKED, archived).when(CancelAnswer(C, A)).then(cancel_requested)


def test_an_archived_conversation_may_be_renamed_read_and_shown_by_another_branch() -> None:
    given(started, archived).when(RenameConversation(C, "Rivers")).then(renamed("Rivers"))
    given(started, archived).when(MarkRead(C, 1)).then(read(1))
    given(*ASKED, archived).when(ChooseBranch(C, A)).nothing_happens()


def test_a_deletion_asks_that_every_open_answer_stop() -> None:
    edited = (posted(M2, edits=M), requested(A2, parent=M2))
    given(*ASKED, *edited).when(DeleteConversation(C)).then(
        deleted, cancel_requested, AnswerCancelRequested(conversation=C, answer=A2)
    )


def test_a_deletion_asks_only_once_and_only_those_that_are_open() -> None:
    given(*ASKED, cancel_requested).when(DeleteConversation(C)).then(deleted)
    given(*ASKED, ended()).when(DeleteConversation(C)).then(deleted)
    given(started).when(DeleteConversation(C)).then(deleted)
    given(*ASKED, deleted, cancel_requested).when(DeleteConversation(C)).nothing_happens()


def test_the_end_of_an_answer_is_recorded_after_the_deletion() -> None:
    gone = (*ASKED, deleted, cancel_requested)
    given(*gone).when(RecordAnswer(ended())).then(ended())
    given(*gone).when(CancelAnswer(C, A)).nothing_happens()
    given(*gone, ended()).when(RecordAnswer(ended())).nothing_happens()


CHANGES: list[Any] = [
    RenameConversation(C, "Rivers"),
    ReplaceMetadata(C, {"a": "b"}),
    ArchiveConversation(C),
    UnarchiveConversation(C),
    ChooseBranch(C, A),
    MarkRead(C, 1),
]


@pytest.mark.parametrize("command", CHANGES)
def test_a_deleted_conversation_is_changed_no_more(command: object) -> None:
    given(*ASKED, deleted).when(command).refused(DeletedConversation(C))


@pytest.mark.parametrize("command", [*CHANGES, DeleteConversation(C)])
def test_a_conversation_that_never_started_is_not_changed(command: object) -> None:
    given().when(command).refused(UnknownConversation(C))


def test_a_read_mark_rises_over_news() -> None:
    given(*ASKED).when(MarkRead(C, 2)).then(read(2))
    given(*ASKED, read(2)).when(MarkRead(C, 3)).then(read(3))
    given(*ASKED, read(2)).when(MarkRead(C, 2)).nothing_happens()
    given(*ASKED, read(3)).when(MarkRead(C, 1)).nothing_happens()


def test_a_read_mark_is_no_news_so_marking_what_one_sees_comes_to_rest() -> None:
    given(*ASKED, read(3)).when(MarkRead(C, 4)).nothing_happens()
    given(*ASKED, read(3), ended()).when(MarkRead(C, 5)).then(read(5))


def test_what_is_not_there_yet_can_not_have_been_read() -> None:
    given(*ASKED).when(MarkRead(C, 4)).refused(ReadBeyondEnd(C, 4, 3))


def test_titles_and_marks_are_in_nobodys_way() -> None:
    open_branch = (*ASKED, renamed("Rivers"), read(3))
    given(*open_branch, ended()).when(PostMessage(C, A, new_message(M3), ask(A3))).then(
        posted(M3, parent=A), requested(A3, parent=M3)
    )
