"""Conversations as their readers see them."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from events import conversations as said
from events.conversations import Attachment, EndKind, Role
from gateway.branches import SIBLINGS_MAX, Tree, page_of
from gateway.read_ports import NodePlace
from tests.gateway.fakes import OTHER_TENANT, TENANT, Bench, calling, served, with_limits
from tests.gateway.test_conversations import post, started
from tests.projections.histories_events import NOON, Told


def told(subject: str = TENANT.owner, *, minute: int = 0, **start: Any) -> Told:
    begins = NOON + timedelta(minutes=minute)
    return Told(tenant=TENANT.tenant, subject=subject, begins=begins, **start)


async def got(http: httpx2.AsyncClient, path: str, **query: Any) -> Any:
    answered = await http.get(path, params=query)
    assert answered.status_code == 200, answered.text
    return answered.json()


async def listed(http: httpx2.AsyncClient, **query: Any) -> list[str]:
    """Ids of all pages."""
    found: list[str] = []
    page = await got(http, "/api/conversations", **query)
    while True:
        found += [one["conversation"] for one in page["data"]]
        if page["next"] is None:
            return found
        page = await got(http, "/api/conversations", **query, cursor=page["next"])


async def test_a_conversation_is_shown_with_its_state(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    one = told(title="Rivers", metadata={"a": "b"})
    one.turn("What is a thalweg?")
    one.post("And a delta?")
    answer = one.ask(model="m2")
    await bench.tell(one)
    shown = await got(http, f"/api/conversations/{one.id}")
    assert shown == {
        "conversation": str(one.id),
        "kind": "conversation",
        "user": TENANT.owner,
        "title": "Rivers",
        "opening": "What is a thalweg?",
        "metadata": {"a": "b"},
        "archived": False,
        "created_at": "2026-11-01T12:00:00Z",
        "last_activity": "2026-11-01T12:00:05Z",
        "head": str(answer),
        "model": "m2",
        "messages": 2,
        "answers": 2,
        "unread": 0,
        "answering": [{"answer": str(answer), "stream": f"/api/answers/{answer}/stream"}],
        "position": 6,
        "parked": False,
    }
    one.end(answer)
    await bench.tell(one)
    shown = await got(http, f"/api/conversations/{one.id}")
    assert (shown["answering"], shown["unread"]) == ([], 1)


async def test_what_is_not_the_callers_or_was_deleted_is_not_found(
    http: httpx2.AsyncClient, stranger: httpx2.AsyncClient, bench: Bench
) -> None:
    one, gone = told(), told()
    gone.about(said.ConversationDeleted)
    await bench.tell(one)
    await bench.tell(gone)
    unstored = told(stored=False)
    await bench.tell(unstored)
    for caller, id_ in ((stranger, one.id), (http, gone.id), (http, unstored.id), (http, uuid4())):
        for path in (f"/api/conversations/{id_}", f"/api/conversations/{id_}/messages"):
            answered = await caller.get(path)
            assert answered.status_code == 404
            assert answered.json()["code"] == "conversation_not_found"
    assert await listed(stranger) == []
    assert await listed(stranger, user=TENANT.owner) == []


async def test_a_list_is_by_activity_of_one_user_in_pages(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    mine = [told(minute=minute) for minute in range(7)]
    anns = told("ann")
    mine[2].about(said.ConversationArchived)
    for one in (*mine, anns):
        await bench.tell(one)
    newest = [str(one.id) for one in reversed(mine)]
    archived = str(mine[2].id)
    assert await listed(http, limit=3, archived="any") == newest
    assert await listed(http, limit=2) == [one for one in newest if one != archived]
    assert await listed(http, archived="true") == [archived]
    assert await listed(http, user="ann") == [str(anns.id)]


async def test_pages_stay_when_things_move(http: httpx2.AsyncClient, bench: Bench) -> None:
    """What did not move is neither repeated nor left out."""
    some = [told(minute=minute) for minute in range(6)]
    for one in some:
        await bench.tell(one)
    first = await got(http, "/api/conversations", limit=2)
    later = told(minute=60)
    some[4].now = some[0].now = later.now + timedelta(minutes=1)
    some[4].post("up")
    some[0].post("up from below the page")
    for one in (later, some[4], some[0]):
        await bench.tell(one)
    rest = await got(http, "/api/conversations", cursor=first["next"])
    ids = [one["conversation"] for one in (*first["data"], *rest["data"])]
    assert ids == [str(some[at].id) for at in (5, 4, 3, 2, 1)]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"archived": "perhaps"}, "archived"),
        ({"cursor": "e30"}, "cursor"),
        ({"cursor": "ü"}, "cursor"),
        ({"cursor": "!"}, "cursor"),
        ({"cursor": ""}, "cursor"),
        ({"user": ""}, "user"),
        ({"users": "ann"}, "users"),
        ({"after": "1"}, "after"),
        ({"after": "conversations.!"}, "after"),
        ({"after": "conversations._w"}, "after"),
    ],
)
async def test_a_bad_query_is_refused_by_name(
    http: httpx2.AsyncClient, query: dict[str, str], param: str
) -> None:
    answered = await http.get("/api/conversations", params=query)
    assert answered.status_code == 400
    assert param in answered.json()["detail"]
    if param == "cursor":
        assert answered.json()["code"] == "invalid_cursor"


async def test_a_cursor_of_another_question_is_refused(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    for minute in range(3):
        await bench.tell(told(minute=minute))
    cursor = (await got(http, "/api/conversations", limit=1))["next"]
    for query in ({"user": "ann"}, {"archived": "any"}):
        answered = await http.get("/api/conversations", params={"cursor": cursor, **query})
        assert answered.json()["code"] == "invalid_cursor"
    twice = await http.get(f"/api/conversations?cursor={cursor}&cursor={cursor}")
    assert twice.status_code == 400


# messages ---------------------------------------------------------------------------------------


async def test_messages_are_read_from_the_end_of_the_branch_in_pages(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    one = told()
    said_in_order: list[str] = []
    for turn in range(4):
        one.turn(f"question {turn}", f"answer {turn}")
        said_in_order += [f"question {turn}", f"answer {turn}"]
    await bench.tell(one)
    path = f"/api/conversations/{one.id}/messages"
    page = await got(http, path, limit=3)
    assert page["head"] == str(one.head)
    texts = [node["text"] for node in page["data"]]
    one.turn("meanwhile")
    await bench.tell(one)
    while page["next"]:
        page = await got(http, path, limit=3, cursor=page["next"])
        texts += [node["text"] for node in page["data"]]
    assert texts == said_in_order[::-1]


async def test_a_message_and_an_answer_say_all_there_is(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    one = told()
    message = one.post("Look", attachments=(Attachment(uri="s3://a/b", name="b", bytes=3),))
    answer = one.ask()
    await bench.tell(one)
    path = f"/api/conversations/{one.id}/messages"
    shown, asked = (await got(http, path))["data"]
    stream = f"/api/answers/{answer}/stream"
    assert (shown["kind"], shown["role"], shown["node"]) == ("answer", "assistant", str(answer))
    assert (shown["status"], shown["text"], shown["stream"]) == ("open", None, stream)
    assert (shown["usage"], shown["parent"]) == (None, str(message))
    assert (asked["kind"], asked["text"], asked["parent"]) == ("message", "Look", None)
    assert asked["attachments"] == [
        {"uri": "s3://a/b", "name": "b", "media_type": None, "bytes": 3}
    ]
    one.end(answer, "half", EndKind.FAIL, "engine", error="gone")
    await bench.tell(one)
    shown = (await got(http, path))["data"][0]
    assert (shown["status"], shown["reason"], shown["error"]) == ("fail", "engine", "gone")
    assert (shown["text"], shown["usage"]["completion_tokens"]) == ("half", 2)


async def test_branches_are_named_with_the_heads_that_show_them(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    one = told()
    first, answer = one.turn("first wording", "first answer")
    again = one.ask(first)
    one.end(again, "again")
    edited = one.post("second wording", parent=None, edits=first)
    last = one.ask()
    one.end(last, "second answer")
    await bench.tell(one)
    path = f"/api/conversations/{one.id}/messages"
    page = await got(http, path)
    assert [node["text"] for node in page["data"]] == ["second answer", "second wording"]
    siblings = page["data"][1]["siblings"]
    assert (siblings["number"], siblings["count"]) == (2, 2)
    assert siblings["around"] == [
        {"node": str(first), "head": str(again)},
        {"node": str(edited), "head": str(last)},
    ]
    assert page["data"][1]["edits"] == str(first)
    other = await got(http, path, head=siblings["around"][0]["head"])
    assert [node["text"] for node in other["data"]] == ["again", "first wording"]
    assert other["data"][0]["siblings"]["around"][0] == {"node": str(answer), "head": str(answer)}
    one.about(said.BranchChosen, head=answer)
    await bench.tell(one)
    chosen = await got(http, path)
    assert [node["text"] for node in chosen["data"]] == ["first answer", "first wording"]


async def test_a_head_that_is_not_there_is_not_found(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    one = told()
    await bench.tell(one)
    path = f"/api/conversations/{one.id}/messages"
    assert (await got(http, path))["data"] == []
    assert (await http.get(path, params={"head": str(uuid4())})).status_code == 404
    assert (await http.get(path, params={"head": "x"})).status_code == 400


def test_of_many_siblings_those_around_are_named() -> None:
    places = [NodePlace(at, uuid4(), None, 1) for at in range(1, 201)]
    tree = Tree(places)
    for at, count in ((0, 200), (100, 200), (199, 200)):
        found = tree.siblings(places[at].node)
        assert (found.number, found.count) == (at + 1, count)
        assert len(found.around) == SIBLINGS_MAX
        assert places[at].node in [one.node for one in found.around]


def test_a_page_is_bounded_in_bytes_and_never_empty() -> None:
    places = [NodePlace(at, uuid4(), None, size) for at, size in enumerate((9, 4, 5, 1), 1)]
    assert page_of(places, limit=4, bytes_max=8) == (places[:1], True)
    assert page_of(places[1:], limit=4, bytes_max=9) == (places[1:3], True)
    assert page_of(places, limit=4, bytes_max=100) == (places, False)
    assert page_of(places, limit=2, bytes_max=100) == (places[:2], True)
    assert page_of([], limit=2, bytes_max=100) == ([], False)


# reading after writing --------------------------------------------------------------------------


async def test_a_read_waits_for_what_was_written(http: httpx2.AsyncClient, bench: Bench) -> None:
    bench.histories.lags = True
    conversation = await started(http)
    receipt = (await post(http, conversation)).json()["receipt"]
    reading = asyncio.create_task(got(http, f"/api/conversations/{conversation}", after=receipt))
    done, _ = await asyncio.wait([reading], timeout=0.1)
    assert not done
    bench.histories.lags = False
    assert (await reading)["messages"] == 1


async def test_a_read_that_waits_in_vain_says_so() -> None:
    async with served(with_limits(read_after_seconds_max=0.05)) as bench, calling(bench) as http:
        conversation = await started(http)
        bench.histories.lags = True
        receipt = (await post(http, conversation)).json()["receipt"]
        for path in (
            "/api/conversations?",
            f"/api/conversations/{conversation}?",
            f"/api/conversations/{conversation}/messages?",
            "/api/conversations/search?q=hi&",
        ):
            answered = await http.get(f"{path}after={receipt}")
            assert (answered.status_code, answered.json()["code"]) == (503, "not_applied_yet")
            assert answered.headers["retry-after-ms"] == "1000"


async def test_what_one_read_has_seen_the_next_one_waits_for() -> None:
    """The other gateway, or the build that was switched to, may be behind."""
    async with served(with_limits(read_after_seconds_max=0.05)) as bench, calling(bench) as http:
        await bench.tell(told())
        first = await http.get("/api/conversations")
        token = first.headers["x-read-token"]
        again = await http.get("/api/conversations", params={"after": token})
        assert again.status_code == 200
        bench.histories.seen -= 1
        bench.histories.lags = True
        behind = await http.get("/api/conversations", params={"after": token})
        assert behind.json()["code"] == "not_applied_yet"


# search and usage -------------------------------------------------------------------------------


async def test_a_search_names_conversation_and_node_and_marks_what_it_found(
    http: httpx2.AsyncClient, stranger: httpx2.AsyncClient, bench: Bench
) -> None:
    one, other = told(title="Rivers"), told("ann")
    one.post("Deep? A system says", role=Role.SYSTEM)
    message = one.post("How deep is deep?")
    other.post("deep")
    for each in (one, other):
        await bench.tell(each)
    page = await got(http, "/api/conversations/search", q="deep", limit=1)
    [found] = page["data"]
    assert (found["conversation"], found["node"]) == (str(one.id), str(message))
    assert (found["title"], found["role"]) == ("Rivers", "user")
    assert [found["excerpt"][start:end] for start, end in found["marks"]] == ["deep", "deep"]
    rest = await got(http, "/api/conversations/search", q="deep", cursor=page["next"])
    assert [each["role"] for each in rest["data"]] == ["system"]
    assert (await got(stranger, "/api/conversations/search", q="deep"))["data"] == []
    for query in ({}, {"q": ""}, {"q": "x" * 257}, {"q": "wide", "cursor": page["next"]}):
        assert (await http.get("/api/conversations/search", params=query)).status_code == 400


async def test_usage_is_summed_by_day_user_and_model_of_the_tenant(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    one, anns = told(), told("ann")
    foreign = Told(tenant=OTHER_TENANT.tenant)
    for each in (one, anns, foreign):
        each.turn("?")
        await bench.tell(each)
    days = {"from": "2026-11-01", "to": "2026-11-30"}
    row = {"prompt_tokens": 3, "completion_tokens": 2, "finished": 1, "failed": 0, "cancelled": 0}
    key = {"day": "2026-11-01", "model": "m"}
    page = await got(http, "/api/usage", **days, limit=1)
    assert page["tenant"] == str(TENANT.tenant)
    assert page["data"] == [{**key, "user": "ann", **row}]
    page = await got(http, "/api/usage", **days, cursor=page["next"])
    assert page["data"] == [{**key, "user": TENANT.owner, **row}]
    assert page["next"] is None
    anns_days = await got(http, "/api/usage", **days, user="ann", by="model")
    assert anns_days["data"] == [{"model": "m", **row}]
    both = {"prompt_tokens": 6, "completion_tokens": 4, "finished": 2, "failed": 0, "cancelled": 0}
    assert (await got(http, "/api/usage", **days, by="tenant"))["data"] == [both]
    for bad in (
        {"from": "2026-11-02", "to": "2026-11-01"},
        {"from": "2025-01-01", "to": "2026-11-01"},
        {"to": "0001-01-01"},
        {"by": "weather"},
    ):
        assert (await http.get("/api/usage", params=bad)).status_code == 400
