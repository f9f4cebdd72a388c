"""Stored completions over fakes: shapes, pages, and what is not to be found."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx2
import pytest

from events.conversations import (
    AnswerCancelRequested,
    ConversationDeleted,
    EndKind,
    MetadataReplaced,
    TokenLogprob,
    Usage,
)
from events.envelope import Recorded
from gateway.openai import stored
from gateway.openai.completions import LOADED_AT_ONCE_MAX
from gateway.openai.ports import CompletionsWanted, Listed, StoredTimes
from tests.gateway.fakes import MODEL, TENANT, Bench, calling, served, with_limits
from tests.gateway.test_answers import asked

PATH = "/v1/chat/completions"
HI = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


async def completed(
    http: httpx2.AsyncClient, bench: Bench, *, ends: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A completion whose end is recorded; what its caller got."""
    answered = await http.post(PATH, json={"model": MODEL, "messages": HI, **more})
    assert answered.status_code == 200, answered.text
    ref = bench.streams.refs[-1]
    usage = Usage(prompt_tokens=3, completion_tokens=2)
    fields = {"usage": usage, **(ends or {})}
    await bench.end(str(ref.conversation), str(ref.answer), **fields)
    got: dict[str, Any] = answered.json()
    return got


async def test_what_was_created_is_retrieved(http: httpx2.AsyncClient, bench: Bench) -> None:
    made = await completed(
        http, bench, temperature=0.5, seed=7, metadata={"a": "b"}, service_tier="flex"
    )
    got = (await http.get(f"{PATH}/{made['id']}")).json()
    assert got == {
        **made,
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "top_p": None,
        "seed": 7,
        "frequency_penalty": None,
        "presence_penalty": None,
    }
    assert made["service_tier"] == "flex"


async def test_log_probabilities_are_kept(http: httpx2.AsyncClient, bench: Bench) -> None:
    logprobs = ((TokenLogprob(token="Hel", logprob=-0.5, top=(("Hel", -0.5),)),),)
    made = await completed(http, bench, ends={"logprobs": logprobs})
    got = (await http.get(f"{PATH}/{made['id']}")).json()
    [token] = got["choices"][0]["logprobs"]["content"]
    likely = {"token": "Hel", "logprob": -0.5, "bytes": [72, 101, 108]}
    assert token == {**likely, "top_logprobs": [likely]}


async def test_its_messages_are_what_was_asked(http: httpx2.AsyncClient, bench: Bench) -> None:
    made = await completed(http, bench)
    path = f"{PATH}/{made['id']}/messages"
    got = (await http.get(path)).json()
    rows = [(row["id"], row["role"], row["content"]) for row in got["data"]]
    assert rows == [
        (f"{made['id']}-0", "system", "Be brief."),
        (f"{made['id']}-1", "user", "Hi"),
    ]
    assert (got["object"], got["has_more"]) == ("list", False)
    first = (await http.get(path, params={"limit": 1, "order": "desc"})).json()
    assert (first["data"][0]["content"], first["has_more"]) == ("Hi", True)
    rest = {"after": first["last_id"], "order": "desc"}
    assert [one["content"] for one in (await http.get(path, params=rest)).json()["data"]] == [
        "Be brief."
    ]
    wrong = await http.get(path, params={"after": "chatcmpl-1"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "after")


async def test_metadata_is_replaced_whole(http: httpx2.AsyncClient, bench: Bench) -> None:
    made = await completed(http, bench, metadata={"a": "b"}, user="ann")
    changed = await http.post(f"{PATH}/{made['id']}", json={"metadata": {"c": "d"}})
    assert changed.json()["metadata"] == {"c": "d"}
    assert (await http.get(f"{PATH}/{made['id']}")).json() == changed.json()
    none = await http.post(f"{PATH}/{made['id']}", json={"metadata": None})
    assert none.json()["metadata"] == {}
    events = bench.events(bench.streams.refs[-1].conversation)
    replaced = [one for one in events if isinstance(one.event, MetadataReplaced)]
    assert [one.meta.subject for one in replaced] == ["ann", "ann"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
        ({"metadata": {"x" * 65: "a"}}, None),
        ({"metadata": {str(k): "" for k in range(17)}}, "metadata"),
        ({"metadata": {}, "model": "x"}, "model"),
    ],
)
async def test_only_metadata_of_their_size_are_taken(
    http: httpx2.AsyncClient, bench: Bench, body: dict[str, Any], param: str | None
) -> None:
    made = await completed(http, bench)
    wrong = await http.post(f"{PATH}/{made['id']}", json=body)
    assert wrong.status_code == 400
    if param is not None:
        assert wrong.json()["error"]["param"] == param
    stored = bench.events_stored()
    if "metadata" in body and "model" not in body:
        again = await http.post(PATH, json={"model": MODEL, "messages": HI, **body})
        assert again.status_code == 400
    assert bench.events_stored() == stored


async def test_a_deleted_one_is_gone(http: httpx2.AsyncClient, bench: Bench) -> None:
    made = await completed(http, bench)
    path = f"{PATH}/{made['id']}"
    gone = {"id": made["id"], "object": "chat.completion.deleted", "deleted": True}
    assert (await http.delete(path)).json() == gone
    assert (await http.get(path)).status_code == 404
    assert (await http.get(f"{path}/messages")).status_code == 404
    assert (await http.post(path, json={"metadata": {}})).status_code == 404
    assert (await http.get(PATH)).json()["data"] == []
    assert (await http.delete(path)).json() == gone  # a repeat of a deletion is one
    events = [one.event for one in bench.events(bench.streams.refs[-1].conversation)]
    assert sum(isinstance(one, ConversationDeleted) for one in events) == 1


async def test_a_deletion_is_about_whom_the_completion_is_about(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    made = await completed(http, bench, user="ann")
    await http.delete(f"{PATH}/{made['id']}")
    events = bench.events(bench.streams.refs[-1].conversation)
    assert isinstance(events[-1].event, ConversationDeleted)
    assert events[-1].meta.subject == "ann"


async def test_one_that_is_being_given_can_be_deleted_and_stops(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    made = (await http.post(PATH, json={"model": MODEL, "messages": HI})).json()
    assert (await http.delete(f"{PATH}/{made['id']}")).json()["deleted"]
    events = [one.event for one in bench.events(bench.streams.refs[-1].conversation)]
    assert isinstance(events[-1], AnswerCancelRequested)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_what_is_not_there_is_not_found(
    http: httpx2.AsyncClient, stranger: httpx2.AsyncClient, bench: Bench, method: str
) -> None:
    kept = await completed(http, bench)
    unstored = await completed(http, bench, store=False)
    body = {"metadata": {}} if method == "POST" else None
    answer = UUID(hex=kept["id"].removeprefix("chatcmpl-"))
    for id_ in (
        unstored["id"],
        "chatcmpl-1",
        str(answer),
        f"chatcmpl-{answer}",
        "chatcmpl-" + "0" * 32,
    ):
        answered = await http.request(method, f"{PATH}/{id_}", json=body)
        assert (answered.status_code, answered.json()["error"]["code"]) == (404, "not_found")
    answered = await stranger.request(method, f"{PATH}/{kept['id']}", json=body)
    assert answered.status_code == 404
    assert (await http.get(f"{PATH}/{kept['id']}")).status_code == 200


async def test_an_answer_that_failed_or_goes_on_is_not_there() -> None:
    async with (
        served(with_limits(completion_ended_seconds_max=0.05)) as bench,
        calling(bench) as http,
    ):
        open_one = (await http.post(PATH, json={"model": MODEL, "messages": HI})).json()
        assert (await http.get(f"{PATH}/{open_one['id']}")).status_code == 404
        failed = await completed(http, bench, ends={"kind": EndKind.FAIL, "reason": "engine"})
        assert (await http.get(f"{PATH}/{failed['id']}")).status_code == 404
        assert (await http.get(PATH)).json()["data"] == []


async def test_they_are_listed_page_by_page(http: httpx2.AsyncClient, bench: Bench) -> None:
    ids = [(await completed(http, bench))["id"] for _ in range(5)]
    await completed(http, bench, store=False)
    got = (await http.get(PATH)).json()
    assert [one["id"] for one in got["data"]] == ids
    assert (got["object"], got["first_id"], got["last_id"]) == ("list", ids[0], ids[-1])
    assert got["has_more"] is False
    assert got["data"][0] == (await http.get(f"{PATH}/{ids[0]}")).json()
    page = (await http.get(PATH, params={"limit": 2, "order": "desc"})).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (ids[:2:-1], True)
    page = (await http.get(PATH, params={"limit": 2, "after": ids[2]})).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (ids[3:], False)


class Lagging:
    """A list that still names what was deleted since, and does not name the newest."""

    def __init__(self, bench: Bench, named: Sequence[Listed]) -> None:
        self._named = named
        bench.desk.gateway = replace(bench.desk.gateway, completions=self)

    async def find(self, wanted: CompletionsWanted) -> Sequence[Listed]:
        after = wanted.after
        rest = [one for one in self._named if after is None or one.place > after]
        return rest[: wanted.limit]


async def test_a_page_of_deleted_ones_is_not_the_last(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    ids = [(await completed(http, bench))["id"] for _ in range(6)]
    named = await bench.desk.gateway.completions.find(CompletionsWanted(TENANT.tenant, 10))
    Lagging(bench, named)
    for id_ in ids[:5]:
        await http.delete(f"{PATH}/{id_}")
    got = (await http.get(PATH, params={"limit": 2})).json()
    assert ([one["id"] for one in got["data"]], got["has_more"]) == (ids[5:], False)
    await http.delete(f"{PATH}/{ids[5]}")
    got = (await http.get(PATH, params={"limit": 2})).json()
    assert (got["data"], got["has_more"]) == ([], False)


async def test_a_list_that_is_far_behind_says_so(
    http: httpx2.AsyncClient, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "EMPTY_PAGES_MAX", 2)
    ids = [(await completed(http, bench))["id"] for _ in range(3)]
    named = await bench.desk.gateway.completions.find(CompletionsWanted(TENANT.tenant, 10))
    Lagging(bench, named)
    for id_ in ids:
        await http.delete(f"{PATH}/{id_}")
    behind = await http.get(PATH, params={"limit": 1})
    assert (behind.status_code, behind.json()["error"]["code"]) == (503, "not_applied_yet")
    assert behind.headers["retry-after"] == "1"


async def test_a_page_goes_on_after_one_that_is_not_listed_yet(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    ids = [(await completed(http, bench))["id"] for _ in range(3)]
    named = await bench.desk.gateway.completions.find(CompletionsWanted(TENANT.tenant, 10))
    Lagging(bench, [named[0], named[2]])
    got = (await http.get(PATH, params={"after": ids[1]})).json()
    assert [one["id"] for one in got["data"]] == ids[2:]


async def test_a_page_goes_on_only_after_a_stored_completion_of_the_caller(
    http: httpx2.AsyncClient, stranger: httpx2.AsyncClient, bench: Bench
) -> None:
    kept = (await completed(http, bench))["id"]
    unstored = (await completed(http, bench, store=False))["id"]
    posted = await asked(http)
    talked = f"chatcmpl-{UUID(posted['answer']).hex}"
    for client, after in ((http, unstored), (http, talked), (stranger, kept)):
        refused = await client.get(PATH, params={"after": after})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "after")


class Counted:
    """Recordings that count what they are asked."""

    def __init__(self, bench: Bench) -> None:
        self._store = bench.store
        self.lookups = self.loading = self.loading_max = 0
        bench.desk.gateway = replace(bench.desk.gateway, recordings=self)

    async def load(self, stream: UUID) -> Sequence[Recorded]:
        self.loading += 1
        self.loading_max = max(self.loading, self.loading_max)
        await asyncio.sleep(0)
        self.loading -= 1
        return await self._store.load(stream)

    async def stored_times(self, commands: Collection[tuple[UUID, str]]) -> StoredTimes:
        self.lookups += 1
        return await self._store.stored_times(commands)


async def test_a_page_is_read_with_few_questions(http: httpx2.AsyncClient, bench: Bench) -> None:
    made = [await completed(http, bench) for _ in range(6)]
    counted = Counted(bench)
    got = (await http.get(PATH)).json()
    assert [one["created"] for one in got["data"]] == [one["created"] for one in made]
    assert counted.lookups == 1
    assert 1 < counted.loading_max <= LOADED_AT_ONCE_MAX


async def test_they_are_filtered(http: httpx2.AsyncClient, bench: Bench) -> None:
    one = await completed(http, bench, metadata={"a": "1", "b": "2"})
    other = await completed(http, bench, model="org/other")

    async def ids(query: str) -> list[str]:
        return [row["id"] for row in (await http.get(f"{PATH}?{query}")).json()["data"]]

    assert await ids("metadata[a]=1") == [one["id"]]
    assert await ids("metadata%5Ba%5D=1&metadata%5Bb%5D=2") == [one["id"]]
    assert await ids("metadata[a]=2") == []
    assert await ids("model=org/other") == [other["id"]]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("after=chatcmpl-1", "after"),
        ("user=ann", "user"),
        ("metadata=a", "metadata"),
    ],
)
async def test_a_query_that_is_not_understood_is_refused(
    http: httpx2.AsyncClient, query: str, param: str
) -> None:
    answered = await http.get(f"{PATH}?{query}")
    assert (answered.status_code, answered.json()["error"]["param"]) == (400, param)


async def test_a_page_ends_early_when_its_answers_are_large() -> None:
    async with served(with_limits(completions_page_bytes_max=3)) as bench, calling(bench) as http:
        ids = [(await completed(http, bench))["id"] for _ in range(3)]
        page = (await http.get(PATH)).json()
        assert ([one["id"] for one in page["data"]], page["has_more"]) == (ids[:1], True)


async def test_a_list_waits_for_what_a_header_names_and_says_what_it_has_seen() -> None:
    async with served(with_limits(read_after_seconds_max=0.05)) as bench, calling(bench) as http:
        made = await completed(http, bench)
        bench.histories.catch_up()
        listed = await http.get(PATH)
        token = listed.headers["x-read-token"]
        after = [("x-read-after", f"{bench.all_events()[0].stream}:1"), ("x-read-after", token)]
        again = await http.get(PATH, headers=after)
        assert [one["id"] for one in again.json()["data"]] == [made["id"]]
        bench.histories.seen -= 1
        bench.histories.lags = True
        behind = await http.get(PATH, headers=after)
        assert (behind.status_code, behind.json()["error"]["code"]) == (503, "not_applied_yet")
        bad = await http.get(PATH, headers=[("x-read-after", "now")])
        many = await http.get(PATH, headers=9 * [("x-read-after", token)])
        assert (bad.status_code, many.status_code) == (400, 400)
