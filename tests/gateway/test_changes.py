"""Titles, metadata, archive, deletion and read marks on the native API."""

from typing import Any

import httpx2
import pytest

from events.conversations import (
    AnswerCancelRequested,
    ConversationArchived,
    ConversationDeleted,
    ConversationRead,
    ConversationRenamed,
    ConversationStarted,
    ConversationUnarchived,
    MessagePosted,
    MetadataReplaced,
)
from tests.gateway.fakes import Bench
from tests.gateway.talking import Talk, talk


def kinds(bench: Bench, conversation: Talk) -> list[type]:
    return [type(one.event) for one in bench.events(conversation.conversation)]


async def test_a_conversation_starts_with_what_is_said_of_it(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    body = {
        "user": "ann",
        "title": "Rivers",
        "metadata": {"team": "maps"},
        "stored": False,
        "system": "Be brief.",
    }
    answered = await http.post("/api/conversations", json=body, headers={"Idempotency-Key": "k"})
    assert answered.status_code == 201, answered.text
    started, told = (one.event for one in bench.events(answered.json()["conversation"]))
    assert isinstance(started, ConversationStarted)
    assert isinstance(told, MessagePosted)
    assert (started.title, started.metadata, started.stored) == ("Rivers", {"team": "maps"}, False)
    assert str(told.message) == answered.json()["message"]
    again = await http.post("/api/conversations", json=body, headers={"Idempotency-Key": "k"})
    assert again.content == answered.content


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"title": ""}, "title"),
        ({"title": "x" * 257}, "title"),
        ({"title": 1}, "title"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {"": "v"}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, "metadata"),
        ({"metadata": None}, "metadata"),
        ({"topic": "x"}, "topic"),
    ],
)
async def test_the_bounds_of_what_is_said_are_the_same_at_the_start_and_later(
    http: httpx2.AsyncClient, bench: Bench, body: dict[str, Any], named: str
) -> None:
    conversation = await talk(http)
    for refused in (
        await http.post("/api/conversations", json=body),
        await conversation.change(**body),
    ):
        assert refused.status_code == 400, refused.text
        assert refused.json()["param"].startswith(named), refused.text
    assert bench.events_stored() == 1


async def test_the_largest_that_is_taken(http: httpx2.AsyncClient, bench: Bench) -> None:
    metadata = {f"{n:02}" + "k" * 62: "v" * 512 for n in range(16)}
    conversation = await talk(http, title="x" * 256, metadata=metadata)
    assert bench.events(conversation.conversation)[0].event.metadata == metadata


async def test_one_call_changes_several_things(http: httpx2.AsyncClient, bench: Bench) -> None:
    conversation = await talk(http)
    changed = await conversation.change("k", title="Rivers", metadata={"a": "b"}, archived=True)
    assert changed.status_code == 200, changed.text
    assert changed.json()["receipt"] == f"{conversation.conversation}:4"
    assert kinds(bench, conversation)[1:] == [
        ConversationRenamed,
        MetadataReplaced,
        ConversationArchived,
    ]
    assert (
        await conversation.change("k", title="Rivers", metadata={"a": "b"}, archived=True)
    ).content == changed.content


async def test_what_is_already_so_is_no_event(http: httpx2.AsyncClient, bench: Bench) -> None:
    conversation = await talk(http, title="Rivers", metadata={"a": "b"})
    for body in ({"title": "Rivers"}, {"metadata": {"a": "b"}}, {"archived": False}):
        assert (await conversation.change(**body)).status_code == 200
    assert len(kinds(bench, conversation)) == 1
    assert (await conversation.change(title=None)).status_code == 200
    assert bench.events(conversation.conversation)[-1].event.title is None


async def test_a_keyed_change_that_was_so_already_is_not_made_later(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = await talk(http, title="A")
    first = await conversation.change("k", title="A")
    assert (await conversation.change(title="B")).status_code == 200
    again = await conversation.change("k", title="A")
    assert (again.status_code, again.content) == (200, first.content)
    assert bench.events(conversation.conversation)[-1].event.title == "B"
    assert (await conversation.change("k", title="C")).status_code == 422


async def test_a_change_of_nothing_is_refused(http: httpx2.AsyncClient) -> None:
    conversation = await talk(http)
    for body in ({}, {"user": "ann"}):
        refused = await conversation.change(**body)
        assert refused.status_code == 400
        assert "archived" in refused.json()["detail"]


async def test_an_archived_conversation_takes_no_messages(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = await talk(http)
    first = (await conversation.post()).json()
    await conversation.change(archived=True)
    for refused in (
        await conversation.post(first["answer"]),
        await conversation.post(edits=first["message"]),
        await conversation.post(first["answer"], role="system"),
        await conversation.send("answers", {"parent": first["message"]}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (409, "conversation_archived")
    await bench.end(conversation.conversation, first["answer"])
    await conversation.change(archived=False)
    assert kinds(bench, conversation)[-1] is ConversationUnarchived
    assert (await conversation.post(first["answer"])).status_code == 202


async def test_a_deletion_stops_the_answer_and_its_end_is_recorded(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = await talk(http)
    first = (await conversation.post()).json()
    deleted = await conversation.delete("gone")
    assert deleted.status_code == 200, deleted.text
    assert deleted.json()["receipt"] == f"{conversation.conversation}:5"
    assert kinds(bench, conversation)[-2:] == [ConversationDeleted, AnswerCancelRequested]
    await bench.end(conversation.conversation, first["answer"])
    assert (await conversation.delete("gone")).content == deleted.content
    assert (await conversation.delete()).status_code == 200
    assert len(kinds(bench, conversation)) == 6


async def test_a_deleted_conversation_takes_nothing(http: httpx2.AsyncClient) -> None:
    conversation = await talk(http)
    first = (await conversation.post()).json()
    await conversation.delete()
    for refused in (
        await conversation.post(first["answer"]),
        await conversation.send("answers", {"parent": first["message"]}),
        await conversation.send("head", {"head": first["answer"]}),
        await conversation.send("read", {"position": 1}),
        await conversation.change(title="Rivers"),
    ):
        assert (refused.status_code, refused.json()["code"]) == (410, "conversation_deleted")


async def test_a_repeat_of_what_was_taken_is_no_error_after_the_deletion(
    http: httpx2.AsyncClient,
) -> None:
    conversation = await talk(http)
    body = {"content": "Hi", "parent": None}
    posted = await conversation.send("messages", body, key="post")
    await conversation.delete()
    assert (await conversation.send("messages", body, key="post")).content == posted.content


async def test_a_deletion_has_no_body_and_names_the_user_in_the_query(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = await talk(http, user="ann")
    refused = await http.request("DELETE", conversation.path, json={"user": "ann"})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
    refused = await http.delete(conversation.path, params={"force": "1"})
    assert (refused.status_code, refused.json()["code"]) == (400, "unsupported_parameter")
    assert (await http.delete(conversation.path, params={"user": "ann"})).status_code == 200
    assert bench.events(conversation.conversation)[-1].meta.subject == "ann"


async def test_what_names_nobody_is_about_the_conversations_own_user(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = await talk(http, user="ann")
    await conversation.post()
    await conversation.send("read", {"position": 3})
    await http.delete(conversation.path)
    events = bench.events(conversation.conversation)
    assert len(events) > 4
    assert {one.meta.subject for one in events} == {"ann"}


async def test_a_read_mark_rises_only_over_news(http: httpx2.AsyncClient, bench: Bench) -> None:
    conversation = await talk(http)
    await conversation.post()
    marked = await conversation.send("read", {"position": 3, "user": "ann"})
    assert marked.status_code == 200, marked.text
    assert bench.events(conversation.conversation)[-1].event == ConversationRead(
        conversation=conversation.conversation, position=3
    )
    assert bench.events(conversation.conversation)[-1].meta.subject == "ann"
    for position in (1, 3, 4):
        assert (await conversation.send("read", {"position": position})).status_code == 200
    assert len(kinds(bench, conversation)) == 4


@pytest.mark.parametrize("position", [0, -1, 2, 2**31, True, "1", None, 1.5])
async def test_a_read_mark_is_a_position_that_there_is(
    http: httpx2.AsyncClient, position: Any
) -> None:
    refused = await (await talk(http)).send("read", {"position": position})
    assert refused.status_code == 400, refused.text


@pytest.mark.parametrize(
    ("method", "where", "body"),
    [
        ("POST", "/messages", {"content": "Hi", "parent": None}),
        ("POST", "/answers", {"parent": "00000000-0000-4000-8000-000000000000"}),
        ("POST", "/head", {"head": "00000000-0000-4000-8000-000000000000"}),
        ("POST", "/read", {"position": 1}),
        ("PATCH", "", {"title": "Mine"}),
        ("DELETE", "", None),
    ],
)
async def test_another_tenants_conversation_can_not_be_changed(
    http: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
    bench: Bench,
    method: str,
    where: str,
    body: Any,
) -> None:
    conversation = await talk(http)
    refused = await stranger.request(method, conversation.path + where, json=body)
    assert (refused.status_code, refused.json()["code"]) == (404, "conversation_not_found")
    assert bench.events_stored() == 1
