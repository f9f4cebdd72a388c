"""Judges what clients saw against what is stored and what the log has, after a fault.

Nothing is forgiven but repeats in the log, which every consumer drops by position: each accepted
command is appended once, nothing else is, and every appended event reaches Kafka in its order.
"""

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from uuid import UUID

import psycopg

from commands.conversations import CONVERSATIONS
from commands.store import EventStore
from events.answers import entries_of_ended
from events.codec import from_cloudevent
from events.conversations import AnswerEnded, AnswerRequested, ConversationStarted, MessagePosted
from events.envelope import Event, Recorded
from infra.kafka.consumer import LogReader
from tests.faults.clients import Turn

RELAYED_SECONDS_MAX = 60
"""A relay that was killed has its lease back and has caught up by then."""

CENSUS = """
SELECT count(DISTINCT originator_id), count(*),
    (SELECT count(*) FROM conversations.commands),
    (SELECT count(*) FROM conversations.answers),
    (SELECT count(*) FROM conversations.answers WHERE ended_at IS NULL)
FROM conversations.stored_events
"""


@dataclass(frozen=True, slots=True)
class Census:
    """What the whole store of the conversations holds."""

    conversations: int
    events: int
    commands: int
    answers: int
    open_answers: int

    def __sub__(self, other: "Census") -> "Census":
        return Census(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


def take_census(database_url: str) -> Census:
    with psycopg.connect(database_url) as connection:
        row = connection.execute(CENSUS).fetchone()
    assert row is not None
    return Census(*row)


def wanted_census(turns: Sequence[Turn]) -> Census:
    """What these turns, all accepted and ended, have added: nothing besides them."""
    conversations = len({turn.conversation for turn in turns})
    return Census(
        conversations=conversations,
        events=conversations + 3 * len(turns),
        commands=conversations + 2 * len(turns),  # a start; a post and the recorder's end
        answers=len(turns),
        open_answers=0,
    )


async def judge(store: EventStore, turns: list[Turn]) -> list[str]:
    """Every way in which a promise was broken, in words; an empty list if none was."""
    found = [f"{turn.answer}: {what}" for turn in turns for what in shown(turn)]
    by_conversation: dict[UUID, list[Turn]] = defaultdict(list)
    for turn in turns:
        by_conversation[turn.conversation].append(turn)
    for conversation, its_turns in by_conversation.items():
        recorded = await store.load(conversation)
        found += [f"{conversation}: {what}" for what in stored(recorded, its_turns)]
    return found


def stored(recorded: Sequence[Recorded], turns: Sequence[Turn]) -> list[str]:
    """What is wrong with a conversation's stream: it has these turns once each, and only them."""
    found = []
    if [one.position for one in recorded] != list(range(1, len(recorded) + 1)):
        found.append("positions are not dense")
    wanted = ["started"]
    for turn in turns:
        wanted += [f"posted {turn.message!r}", f"asked {turn.answer}", f"ended {turn.answer}"]
    events = [in_words(one.event) for one in recorded]
    if events != wanted:
        found.append(f"stored {events}, wanted {wanted}")
    ends = CONVERSATIONS.replay(recorded).ends
    for turn in turns:
        ended = ends.get(turn.answer) if turn.answer else None
        if ended is None:
            found.append(f"{turn.answer}: no end is stored")
        elif [(e.index, e.text) for e in entries_of_ended(ended)] != turn.seen:
            found.append(f"{turn.answer}: stored {ended.text!r}, shown {turn.text!r}")
    return found


def in_words(event: Event) -> str:
    match event:
        case ConversationStarted():
            return "started"
        case MessagePosted():
            return f"posted {event.content!r}"
        case AnswerRequested():
            return f"asked {event.answer}"
        case AnswerEnded():
            return f"ended {event.answer}"
    return repr(event)


def shown(turn: Turn) -> list[str]:
    """What is wrong with what one client saw: gap, repeat, splice, missing end."""
    found = []
    if turn.end is None:
        found.append("no end was shown")
    elif turn.end["kind"] != "finish":
        found.append(f"ended with {turn.end}")
    indexes = [index for index, _ in turn.seen]
    if indexes != list(range(len(indexes))):
        found.append(f"indexes shown: {indexes}")
    numbers = [int(number) for number in re.findall(r" (\d+)", turn.text)]
    if numbers != list(range(len(numbers))):
        found.append(f"numbers shown: {numbers}")
    wanted = re.search(r"tokens=(\d+)", turn.message)
    if turn.end is not None and wanted and len(numbers) != int(wanted[1]):
        found.append(f"{len(numbers)} tokens shown, {wanted[1]} asked for")
    return found


async def judge_log(
    bootstrap: str, topic: str, partitions: int, store: EventStore, streams: Iterable[UUID]
) -> list[str]:
    """Whether the log has each event of these streams, in order once repeats are dropped."""
    wanted = {stream: [one.id for one in await store.load(stream)] for stream in streams}
    seen: dict[UUID, list[UUID]] = {stream: [] for stream in wanted}
    gaps: list[str] = []
    reader = LogReader(bootstrap)
    try:
        await reader.assign({(topic, partition): 0 for partition in range(partitions)})
        deadline = time.monotonic() + RELAYED_SECONDS_MAX
        while seen != wanted and time.monotonic() < deadline:
            for record in await reader.read(seconds_max=0.1):
                one = from_cloudevent(record.headers, record.value)
                if one.stream not in seen or one.position <= len(seen[one.stream]):
                    continue
                if one.position != len(seen[one.stream]) + 1:
                    gaps.append(f"{one.stream}: {one.position} came after a gap")
                seen[one.stream].append(one.id)
    finally:
        await reader.close()
    missing = [
        f"{stream}: the log has {len(seen[stream])} of {len(events)} events"
        for stream, events in wanted.items()
        if seen[stream] != events
    ]
    return gaps + missing
