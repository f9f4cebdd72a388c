"""A client's trace goes on through every hop of its message."""

import secrets
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from events.answers import Claim
from events.codec import decode_token_record
from events.conversations import AnswerEnded, Band
from events.topics import Topics
from events.trace import ids_of
from infra.event_store import open_conversation_store
from infra.kafka.consumer import LogReader, Record
from infra.servers import resolve
from infra.settings import Settings
from tests.fixtures.numbered_process import NumberedEngine
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg
from tests.system.conftest import client

PARTITIONS = 16
READS_MAX = 600
"""Of 0.1 s: events are relayed in milliseconds, if the machine has nothing else to do."""

T = TypeVar("T")


async def found_in(reader: LogReader, topic: str, found: Callable[[Record], T | None]) -> T:
    """The first that `found` makes of a record of the topic, read from its begin."""
    await reader.assign({(topic, partition): 0 for partition in range(PARTITIONS)})
    for _ in range(READS_MAX):
        for record in await reader.read(seconds_max=0.1):
            if record.topic == topic and (one := found(record)) is not None:
                return one
    raise AssertionError(f"nothing was found in {topic}")


async def test_the_trace_of_a_request_is_on_every_hop(
    numbered: RunningThalweg, engine: NumberedEngine
) -> None:
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    with client(numbered) as http:
        conversation = http.post("/api/conversations", json={}).json()["conversation"]
        posted = http.post(
            f"/api/conversations/{conversation}/messages",
            json={"content": "tokens=3", "parent": None},
            headers={"traceparent": f"00-{trace}-{span}-01"},
        ).json()
        assert "event: end" in http.get(f"/api/answers/{posted['answer']}/stream").text
        recording = f"/api/streams/{conversation}"  # an end is shown before it is recorded
        wait_for(lambda: "answer_ended" in http.get(recording).text, "the end to be recorded")
    key = UUID(conversation)

    def header(record: Record) -> str | None:
        headers = dict(record.headers)
        of_message = headers["ce_type"] != b"thalweg.conversations.conversation_started"
        wanted = headers["ce_subject"] == conversation.encode() and of_message
        return headers["ce_traceparent"].decode() if wanted else None

    def claim(record: Record) -> str | None:
        one = decode_token_record(record.value)
        wanted = isinstance(one, Claim) and one.answer == UUID(posted["answer"])
        return one.traceparent if wanted and isinstance(one, Claim) else None

    settings, topics = resolve(Settings(home=numbered.home)), Topics()
    hops: dict[str, str | None] = {}
    reader = LogReader(settings.kafka_servers)
    try:
        for topic in (topics.domain("conversations"), topics.work(Band.DEFAULT)):
            hops[topic] = await found_in(reader, topic, header)
        hops[topics.tokens] = await found_in(reader, topics.tokens, claim)
    finally:
        await reader.close()
    store = await open_conversation_store(settings.database_url("conversations"))
    try:
        recorded = await store.load(key)
    finally:
        await store.close()
    ended = [one for one in recorded if isinstance(one.event, AnswerEnded)]
    hops["the recorded end"] = ended[0].meta.traceparent
    hops["the engine"] = engine.calls()["traceparent"]
    logged = wait_for(lambda: spans_logged(numbered, trace), "the trace in the gateway's log")
    assert logged
    found = {hop: ids_of(traceparent) for hop, traceparent in hops.items()}
    assert {hop: ids and ids[0] for hop, ids in found.items()} == dict.fromkeys(hops, trace)


def spans_logged(thalweg: RunningThalweg, trace: str) -> bool:
    return trace in (thalweg.home / "logs" / "gateway.jsonl").read_text()
