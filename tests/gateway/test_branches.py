"""Edits, further answers, branches and system messages on the native API."""

import asyncio
from typing import Any

import httpx2
import pytest

from events.conversations import (
    Attachment,
    BranchChosen,
    MessagePosted,
    Role,
    Sampling,
)
from tests.gateway.fakes import Bench, until
from tests.gateway.talking import talk

NOBODY = "00000000-0000-4000-8000-000000000000"


async def test_an_edit_begins_a_branch_while_the_answer_goes_on(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = await talk(http)
    first = (await conversation.post()).json()
    edited = await conversation.post(edits=first["message"], content="Hello")
    assert edited.status_code == 202, edited.text
    posted, asked = (one.event for one in bench.events(conversation.conversation)[-2:])
    assert (str(posted.edits), posted.parent, posted.content) == (first["message"], None, "Hello")
    assert str(asked.answer) == edited.json()["answer"] != first["answer"]
    await bench.end(conversation.conversation, first["answer"])  # its end is recorded all the same
    blocked = await conversation.post(edited.json()["answer"], role="user")
    assert blocked.json()["answer"] == edited.json()["answer"]


async def test_an_edit_says_what_it_edits(http: httpx2.AsyncClient) -> None:
    conversation = await talk(http)
    first = (await conversation.post()).json()
    for edit, status, code in (
        ({"edits": NOBODY}, 404, "message_not_found"),
        ({"edits": first["answer"]}, 404, "message_not_found"),
        ({"edits": first["message"], "parent": first["answer"]}, 409, "edit_elsewhere"),
        ({"edits": first["message"], "role": "system"}, 400, "edit_of_another_role"),
        ({"edits": "x"}, 400, "invalid_request"),
    ):
        refused = await conversation.post(**edit)
        assert (refused.status_code, refused.json()["code"]) == (status, code)


async def test_a_message_is_answered_again(http: httpx2.AsyncClient, bench: Bench) -> None:
    conversation = await talk(http)
    first = (await conversation.post()).json()
    await bench.end(conversation.conversation, first["answer"])
    body = {"parent": first["message"], "temperature": 0, "max_tokens": 5}
    again = await conversation.send("answers", body, key="again")
    assert again.status_code == 202, again.text
    assert again.headers["location"] == f"/api/answers/{again.json()['answer']}/stream"
    assert again.json()["receipt"] == f"{conversation.conversation}:5"
    asked = bench.events(conversation.conversation)[-1].event
    assert str(asked.parent) == first["message"]
    assert asked.sampling == Sampling(max_tokens=5, temperature=0)
    repeated = await conversation.send("answers", body, key="again")
    assert repeated.content == again.content
    assert len(bench.events(conversation.conversation)) == 5


async def test_who_has_seen_an_end_may_ask_again_before_it_is_recorded(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = await talk(http)
    first = (await conversation.post()).json()
    body = {"parent": first["message"]}
    waiting = asyncio.create_task(conversation.send("answers", body))
    await until(lambda: bench.models.asked == 2)
    assert not waiting.done()
    await bench.end(conversation.conversation, first["answer"])
    assert (await waiting).status_code == 202


async def test_what_can_not_be_answered_is_said(http: httpx2.AsyncClient) -> None:
    conversation = await talk(http)
    first = (await conversation.post()).json()
    for body, status, code in (
        ({"parent": NOBODY}, 404, "node_not_found"),
        ({"parent": first["answer"]}, 400, "not_answerable"),
        ({"parent": None}, 400, "invalid_request"),
        ({}, 400, "invalid_request"),
        ({"parent": first["message"], "content": "Hi"}, 400, "unsupported_parameter"),
        ({"parent": first["message"], "model": "gpt-9"}, 404, "model_not_found"),
    ):
        refused = await conversation.send("answers", body)
        assert (refused.status_code, refused.json()["code"]) == (status, code)


async def test_a_branch_is_chosen_and_gone_on_with(http: httpx2.AsyncClient, bench: Bench) -> None:
    conversation = await talk(http)
    first = (await conversation.post()).json()
    await bench.end(conversation.conversation, first["answer"])
    edited = (await conversation.post(edits=first["message"])).json()
    chosen = await conversation.send("head", {"head": first["answer"]}, key="choose")
    assert chosen.status_code == 200, chosen.text
    assert chosen.json()["receipt"] == f"{conversation.conversation}:7"
    assert isinstance(bench.events(conversation.conversation)[-1].event, BranchChosen)
    # The other branch is still being answered; this one takes the next message.
    onward = await conversation.post(first["answer"])
    assert onward.status_code == 202, onward.text
    repeated = await conversation.send("head", {"head": first["answer"]}, key="choose")
    assert repeated.content == chosen.content
    stale = await conversation.post(edited["answer"])
    assert stale.json()["code"] == "answer_in_progress"


async def test_a_post_to_a_chosen_answer_waits_until_its_end_is_recorded(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = await talk(http)
    first = (await conversation.post()).json()
    await conversation.post(edits=first["message"])
    assert (await conversation.send("head", {"head": first["answer"]})).status_code == 200
    waiting = asyncio.create_task(conversation.post(first["answer"]))
    await until(lambda: bench.models.asked == 3)
    assert not waiting.done()
    await bench.end(conversation.conversation, first["answer"])
    assert (await waiting).status_code == 202


async def test_only_the_last_node_of_a_branch_is_chosen(
    http: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    conversation = await talk(http)
    first = (await conversation.post()).json()
    for body, status, code in (
        ({"head": first["message"]}, 409, "branch_goes_on"),
        ({"head": NOBODY}, 404, "node_not_found"),
        ({"head": None}, 400, "invalid_request"),
        ({}, 400, "invalid_request"),
    ):
        refused = await conversation.send("head", body)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    theirs = await stranger.post(f"{conversation.path}/head", json={"head": first["answer"]})
    assert (theirs.status_code, theirs.json()["code"]) == (404, "conversation_not_found")


async def test_a_system_message_asks_for_no_answer(http: httpx2.AsyncClient, bench: Bench) -> None:
    conversation = await talk(http)
    told = await conversation.post(role="system", content="Be brief.")
    assert told.status_code == 201, told.text
    assert told.headers["location"] == conversation.path
    assert set(told.json()) == {"conversation", "message", "receipt", "stored_at"}
    posted = bench.events(conversation.conversation)[-1].event
    assert isinstance(posted, MessagePosted)
    assert (posted.role, posted.content) == (Role.SYSTEM, "Be brief.")
    asked = await conversation.post(told.json()["message"])
    assert asked.status_code == 202
    refused = await conversation.post(asked.json()["message"], role="system", seed=3)
    assert (refused.status_code, refused.json()["param"]) == (400, "seed")
    refused = await conversation.post(asked.json()["message"], role="assistant")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")


async def test_a_system_message_after_an_answer_waits_until_its_end_is_recorded(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = await talk(http)
    first = (await conversation.post()).json()
    waiting = asyncio.create_task(conversation.post(first["answer"], role="system"))
    await asyncio.wait([waiting], timeout=3 * bench.limits.end_recorded_poll_seconds)
    assert not waiting.done(), waiting.result().text
    await bench.end(conversation.conversation, first["answer"])
    assert (await waiting).status_code == 201


async def test_attachments_are_kept_as_references(http: httpx2.AsyncClient, bench: Bench) -> None:
    conversation = await talk(http)
    attachments = [
        {"uri": "https://example.com/a.pdf", "name": "a.pdf", "media_type": "application/pdf"},
        {"uri": "s3://files/b", "bytes": 7},
    ]
    posted = await conversation.post(attachments=attachments)
    assert posted.status_code == 202, posted.text
    assert bench.events(conversation.conversation)[1].event.attachments == (
        Attachment(uri="https://example.com/a.pdf", name="a.pdf", media_type="application/pdf"),
        Attachment(uri="s3://files/b", bytes=7),
    )


@pytest.mark.parametrize(
    ("attachments", "named"),
    [
        ([{"uri": "javascript:alert(1)"}], "attachments[0].uri"),
        ([{"uri": "JavaScript:alert(1)"}], "attachments[0].uri"),
        ([{"uri": "data:text/plain,hi"}], "attachments[0].uri"),
        ([{"uri": "/a.pdf"}], "attachments[0].uri"),
        ([{"uri": "https://a b"}], "attachments[0].uri"),
        ([{"uri": "https://a\n"}], "attachments[0].uri"),
        ([{"uri": "https://" + "a" * 2_041}], "attachments[0].uri"),
        ([{"uri": "s3://a"}, {"uri": "s3://a", "name": ""}], "attachments[1].name"),
        ([{"uri": "s3://a", "media_type": "pdf"}], "attachments[0].media_type"),
        ([{"uri": "s3://a", "bytes": -1}], "attachments[0].bytes"),
        ([{"uri": "s3://a", "bytes": True}], "attachments[0].bytes"),
        ([{"uri": "s3://a", "text": "hi"}], "attachments[0].text"),
        ([{}], "attachments[0].uri"),
        ([{"uri": "s3://a"}] * 33, "attachments"),
        ("s3://a", "attachments"),
    ],
)
async def test_what_is_wrong_with_attachments_is_named(
    http: httpx2.AsyncClient, attachments: Any, named: str
) -> None:
    refused = await (await talk(http)).post(attachments=attachments)
    assert (refused.status_code, refused.json()["param"]) == (400, named), refused.text
