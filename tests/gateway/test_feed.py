"""One stream of everything that concerns a user."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import conversations as said
from gateway.feed import CHANGES_PER_READ_MAX
from gateway.feed_cursor import FOLLOWED_MAX, FeedCursor, parse
from tests.gateway.fakes import (
    API_KEY,
    SECONDS_MAX,
    Bench,
    begun,
    calling,
    hashed,
    served,
    spoken,
    until,
    with_limits,
)
from tests.gateway.test_conversations import post, started
from tests.gateway.test_histories import told


@dataclass
class Frame:
    id: str
    event: str
    data: Any


class Opened:
    """A feed that is being read."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.id = ""
        self.comments: list[str] = []

    async def next(self) -> Frame:
        """The next frame with an event; raises StopAsyncIteration at the end."""
        event, data = "", ""
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                line = await anext(self._lines)
                if line.startswith(":"):
                    self.comments.append(line)
                name, _, value = line.partition(": ")
                if name == "id":
                    self.id = value
                elif name == "event":
                    event = value
                elif name == "data":
                    data = value
                elif not line and event:
                    return Frame(self.id, event, json.loads(data))
                elif not line and not data and self.id and not self.comments:
                    return Frame(self.id, "", None)

    async def of(self, event: str) -> Frame:
        while (frame := await self.next()).event != event:
            pass
        return frame


@asynccontextmanager
async def feed(
    http: httpx2.AsyncClient, *, after: str | None = None, **query: str
) -> AsyncIterator[Opened]:
    headers = {} if after is None else {"Last-Event-ID": after}
    async with http.stream("GET", "/api/feed", params=query, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        opened = Opened(response.aiter_lines())
        assert (await opened.next()).event == "", "an id comes first"
        yield opened


@pytest.fixture(autouse=True)
async def projecting(bench: Bench) -> AsyncIterator[None]:
    """The role `projections`."""
    async with projected(bench):
        yield


@asynccontextmanager
async def projected(bench: Bench) -> AsyncIterator[None]:
    async def work() -> None:
        while True:
            bench.histories.catch_up()
            await asyncio.sleep(0.002)

    task = asyncio.create_task(work())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_changes_come_in_their_newest_form(http: httpx2.AsyncClient, bench: Bench) -> None:
    async with feed(http) as opened:
        conversation = await started(http)
        frame = await opened.of("conversation")
        assert frame.data["conversation"] == conversation
        assert (frame.data["messages"], frame.data["deleted"]) == (0, False)
        answer = (await post(http, conversation)).json()["answer"]
        frame = await opened.of("conversation")
        assert frame.data["messages"] == 1
        assert [one["answer"] for one in frame.data["answering"]] == [answer]
        await bench.end(conversation, answer)
        frame = await opened.of("conversation")
        assert (frame.data["answering"], frame.data["unread"]) == ([], 1)
        shown = (await http.get(f"/api/conversations/{conversation}")).json()
        assert frame.data == shown | {"deleted": False}


async def test_who_comes_again_gets_each_that_has_changed_once(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    changed, deleted, quiet = told(), told(), told()
    for one in (changed, deleted, quiet):
        await bench.tell(one)
    async with feed(http, starting_after="0") as opened:
        frames = [await opened.next() for _ in range(3)]
    for title in ("a", "b", "c"):
        changed.about(said.ConversationRenamed, title=title)
        await bench.tell(changed)
    deleted.about(said.ConversationDeleted)
    await bench.tell(deleted)
    bench.histories.catch_up()
    async with feed(http, after=frames[-1].id) as opened:
        first, second = await opened.next(), await opened.next()
        assert (first.data["conversation"], first.data["title"]) == (str(changed.id), "c")
        assert second.data == {"conversation": str(deleted.id), "deleted": True}
        new = await started(http)
        assert (await opened.next()).data["conversation"] == new
    async with feed(http, after=first.id) as opened:
        assert (await opened.next()).data["conversation"] == str(deleted.id)


async def test_who_is_far_behind_gets_every_page(http: httpx2.AsyncClient, bench: Bench) -> None:
    changed = [told() for _ in range(2 * CHANGES_PER_READ_MAX + 1)]
    for one in changed:
        await bench.tell(one)
    bench.histories.catch_up()
    async with feed(http, starting_after="0") as opened:
        frames = [await opened.next() for _ in changed]
    assert {one.data["conversation"] for one in frames} == {str(one.id) for one in changed}


async def test_without_a_cursor_it_begins_now_and_the_header_comes_before_the_parameter(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    await bench.tell(told())
    bench.histories.catch_up()
    async with feed(http) as opened:
        now = opened.id
        conversation = await started(http)
        assert (await opened.next()).data["conversation"] == conversation
    async with feed(http, starting_after="0", after=now) as opened:
        assert (await opened.next()).data["conversation"] == conversation


async def test_it_is_of_one_user_and_one_tenant(
    http: httpx2.AsyncClient, stranger: httpx2.AsyncClient, bench: Bench
) -> None:
    async with feed(http, user="ann") as anns, feed(stranger, user="ann") as strange:
        await started(http)
        await bench.tell(told("ann", title="hers"))
        assert (await anns.next()).data["title"] == "hers"
        theirs = (await stranger.post("/api/conversations", json={"user": "ann"})).json()
        assert (await strange.next()).data["conversation"] == theirs["conversation"]


async def test_chunks_of_all_answers_come_on_the_same_stream(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    async with feed(http, tokens="true") as opened:
        asked = {}
        for _ in range(2):
            conversation = await started(http)
            asked[(await post(http, conversation)).json()["answer"]] = conversation
        texts: dict[str, str] = dict.fromkeys(asked, "")
        ends = 0
        while ends < 2:
            frame = await opened.next()
            if frame.event in ("chunk", "end"):
                assert frame.data["conversation"] == asked[frame.data["answer"]]
                texts[frame.data["answer"]] += frame.data["text"]
                ends += frame.event == "end"
        assert set(texts.values()) == {"Hello"}
        for answer, conversation in asked.items():
            await bench.end(conversation, answer)
            await opened.of("conversation")
        conversation = await started(http)
        frame = await opened.of("conversation")
        assert "," not in frame.id, "answers that ended are forgotten"


async def test_a_feed_that_is_cut_goes_on_with_the_next_chunk(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    bench.streams.script = begun("a", "b")
    conversation = await started(http)
    answer = (await post(http, conversation)).json()["answer"]
    bench.histories.catch_up()
    async with feed(http, tokens="true") as opened:
        first = await opened.of("chunk")
        assert (first.data["index"], first.data["text"]) == (0, "a")
    bench.streams.say(UUID(answer), *spoken("a", "b", "c")[2:])
    await bench.end(conversation, answer)
    async with feed(http, after=first.id, tokens="true") as opened:
        said_then = [await opened.next() for _ in range(4)]
    chunks = [one.data["index"] for one in said_then if one.event != "conversation"]
    assert chunks == [1, 2, 3]
    ended = next(one for one in said_then if one.event == "end")
    assert ended.data["kind"] == "finish"


async def test_an_answer_whose_end_was_told_before_its_last_chunks_is_forgotten_after_them(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    bench.streams.script = begun("a")
    conversation = await started(http)
    answer = (await post(http, conversation)).json()["answer"]
    bench.histories.catch_up()
    async with feed(http, tokens="true") as opened:
        await opened.of("chunk")
        await bench.end(conversation, answer)
        told_end = await opened.of("conversation")
    assert "," in told_end.id
    async with feed(http, after=told_end.id, tokens="true") as opened:
        bench.streams.say(UUID(answer), *spoken("a")[1:])
        assert (await opened.of("end")).data["index"] == 1
        await started(http)
        assert "," not in (await opened.of("conversation")).id


async def test_answers_can_be_named(
    http: httpx2.AsyncClient, stranger: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = (await http.post("/api/conversations", json={"user": "ann"})).json()
    answer = (await post(http, conversation["conversation"])).json()["answer"]
    async with feed(http, tokens=answer) as opened:
        frames = [await opened.next() for _ in range(3)]
        assert [one.event for one in frames] == ["chunk", "chunk", "end"]
        await post(http, await started(http))
        assert (await opened.next()).event == "conversation"
    async with feed(http, tokens=answer, after=frames[1].id) as opened:
        assert (await opened.of("end")).data == frames[2].data
    refused = await stranger.get("/api/feed", params={"tokens": answer})
    assert refused.status_code == 404


@pytest.mark.parametrize(
    "query",
    [
        {"tokens": "some"},
        {"tokens": ",".join(str(uuid4()) for _ in range(FOLLOWED_MAX + 1))},
        {"starting_after": "now"},
        {"starting_after": "-1"},
        {"tokes": "true"},
    ],
)
async def test_a_bad_query_is_refused(http: httpx2.AsyncClient, query: dict[str, str]) -> None:
    assert (await http.get("/api/feed", params=query)).status_code == 400


async def test_a_feed_outlives_a_database_that_is_away(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    async with feed(http, tokens="true") as opened:
        conversation = await started(http)
        await opened.of("conversation")
        bench.histories.away = True
        answer = (await post(http, conversation)).json()["answer"]
        await until(lambda: bench.histories.refused > 0)
        bench.histories.away = False
        assert (await opened.of("conversation")).data["answering"][0]["answer"] == answer
        assert (await opened.of("end")).data["answer"] == answer


async def test_an_answer_that_cannot_be_read_is_named_and_goes_on_later(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    bench.streams.unavailable_after = 0
    async with feed(http, tokens="true") as opened:
        answer = (await post(http, await started(http))).json()["answer"]
        assert (await opened.of("chunk")).data["index"] == 0
        problem = await opened.of("problem")
        assert problem.data["code"] == "answer_stream_unavailable"
        assert problem.data["answer"] == answer
        await started(http)
        last = await opened.of("conversation")
    bench.streams.unavailable_after = None
    async with feed(http, after=last.id, tokens="true") as opened:
        assert (await opened.of("chunk")).data["index"] == 1


async def test_a_revoked_key_ends_its_feeds() -> None:
    limits = with_limits(keepalive_seconds=0.05, key_cache_seconds=0)
    async with served(limits) as bench, calling(bench) as http, feed(http) as opened:
        await until(lambda: bench.keys.asked > 2)
        del bench.keys.callers[hashed(API_KEY)]
        frame = await opened.of("problem")
        assert frame.data["code"] == "invalid_api_key"
        with pytest.raises(StopAsyncIteration):
            await opened.next()


async def test_a_gateway_that_stops_says_so_on_every_feed(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    async with feed(http, tokens="true") as opened:
        bench.stopping.set()
        with pytest.raises(StopAsyncIteration):
            await opened.next()
        assert opened.comments == [": this gateway is stopping; come again with your cursor"]


@given(
    st.integers(0, 10**17),
    st.dictionaries(st.uuids(), st.integers(0, 10**8), max_size=FOLLOWED_MAX),
)
def test_a_cursor_is_read_as_it_was_written(number: int, answers: dict[UUID, int]) -> None:
    assert parse(str(FeedCursor(number, answers))) == FeedCursor(number, answers)
