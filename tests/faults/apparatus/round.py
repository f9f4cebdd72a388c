"""One round on a whole installation: clients converse, a fault strikes, everything is judged."""

import asyncio
import os
from dataclasses import dataclass, field

from events.topics import Topics
from infra.event_store import open_conversation_store
from tests.faults.apparatus import Fault
from tests.faults.clients import Client
from tests.faults.engines import TGI
from tests.faults.judge import Census, judge, judge_log, take_census, wanted_census
from tests.faults.read_side import judge_read_side, settings_of
from tests.fixtures.thalweg import RunningThalweg

LONG = os.environ.get("FAULTS_LONG") == "1"
CLIENTS = 6
PARTITIONS = 16
BEGUN_SECONDS_MAX = 30
MESSAGES = ("tokens={first} delay_ms=20", "tokens=40 delay_ms=20")


@dataclass
class Here:
    """The world of one round."""

    thalweg: RunningThalweg
    notes: list[str] = field(default_factory=list)
    conversations: int = 0
    """Started by the fault itself, beside the clients."""

    def seconds(self, short: float, long: float) -> float:
        return long if LONG else short

    def note(self, text: str) -> None:
        self.notes.append(text)

    def started_conversation(self) -> None:
        self.conversations += 1


async def play(
    thalweg: RunningThalweg, fault: Fault, *, model: str = TGI, more_text: str = ""
) -> Here:
    """The fault comes when all clients read. AssertionError says what was broken."""
    here, settings = Here(thalweg), settings_of(thalweg)
    database = settings.database_url("conversations")
    before = await asyncio.to_thread(take_census, database)
    clients = [Client(thalweg.url, thalweg.api_key, model) for _ in range(CLIENTS)]
    talking = [
        asyncio.create_task(
            client.converse([text.format(first=40 + 8 * number) + more_text for text in MESSAGES])
        )
        for number, client in enumerate(clients)
    ]
    try:
        async with asyncio.timeout(BEGUN_SECONDS_MAX):
            await asyncio.gather(*(client.begun.wait() for client in clients))
        await fault(here)
        await asyncio.gather(*talking)
    finally:
        for one in talking:
            one.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
    turns = [turn for client in clients for turn in client.turns]
    assert len(turns) == len(MESSAGES) * CLIENTS
    store = await open_conversation_store(database)
    try:
        streams = {turn.conversation for turn in turns}
        topic, bootstrap = Topics().domain("conversations"), settings.kafka_servers
        log = await judge_log(bootstrap, topic, PARTITIONS, store, streams)
        again = [what for client in clients for what in await client.check_again()]
        assert await judge(store, turns) + log + again == []
    finally:
        await store.close()
    own = here.conversations
    besides = Census(conversations=own, events=own, commands=own, answers=0, open_answers=0)
    added = await asyncio.to_thread(take_census, database) - before
    assert added - besides == wanted_census(turns)
    assert await judge_read_side(thalweg) == []
    return here
