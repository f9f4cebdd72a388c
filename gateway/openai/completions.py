"""Stored completions as objects: each is made of its stream of events, which never lags."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal
from uuid import UUID

from commands.conversations import CONVERSATIONS, Conversation
from events.answers import EntryEnd
from events.conversations import AnswerEnded, AnswerRequested, EndKind, Kind
from events.envelope import Meta
from events.ids import AnswerId, ConversationId
from gateway.desk import Desk
from gateway.errors import NotFound
from gateway.event_stream import Whole
from gateway.openai import frames
from gateway.openai.ports import Listed, Place
from gateway.ports import Caller


class Quiet(Enum):
    UNENDED = "its answer is being given"


UNENDED: Final = Quiet.UNENDED
Unended = Literal[Quiet.UNENDED]

ID_PREFIX = "chatcmpl-"
LOADED_AT_ONCE_MAX = 4
"""Of a list's completions: as many as a store has connections for reads, and one that waits."""
SHOWN_SAMPLING = ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty")


@dataclass(frozen=True, slots=True)
class Completion:
    """A stored completion whose answer has ended."""

    head: frames.Head
    state: Conversation
    requested: AnswerRequested
    ended: AnswerEnded

    @property
    def conversation(self) -> ConversationId:
        return self.requested.conversation

    def as_object(self) -> dict[str, Any]:
        """What its caller got, and what belongs to it since."""
        ended = self.ended
        end = EntryEnd(ended.kind, ended.reason, ended.error, ended.usage)
        logprobs = tuple(one for chunk in ended.logprobs or () for one in chunk)
        sampling = self.requested.sampling.model_dump(include=set(SHOWN_SAMPLING))
        return {
            **frames.completion(self.head, Whole(ended.text, end, logprobs)),
            **{name: sampling[name] for name in SHOWN_SAMPLING},
            "metadata": dict(self.state.metadata),
        }

    def messages(self) -> list[dict[str, Any]]:
        """What was asked, in its order."""
        return [
            {
                "id": f"{self.head.id}-{index}",
                "role": message.role.value,
                "content": message.content,
                "name": None,
                "content_parts": None,
            }
            for index, message in enumerate(self.state.messages.values())
        ]


def answer_of(completion: str) -> AnswerId:
    """The answer of a completion's id. Raises NotFound."""
    text = completion.removeprefix(ID_PREFIX)
    try:
        answer = UUID(hex=text)
    except ValueError:
        raise not_there(completion) from None
    if not completion.startswith(ID_PREFIX) or answer.hex != text:
        raise not_there(completion)
    return AnswerId(answer)


def not_there(completion: str) -> NotFound:
    return NotFound(f"stored completion {completion[:64]!r}")


async def conversation_of(desk: Desk, caller: Caller, completion: str) -> ConversationId:
    """Where a completion of the caller's tenant is, whatever became of it. Raises NotFound."""
    row = await desk.gateway.answers.find_answer(answer_of(completion))
    if row is None or row.tenant != caller.tenant:
        raise not_there(completion)
    return ConversationId(row.conversation)


async def found(desk: Desk, caller: Caller, completion: str) -> Completion:
    """A completion as it is now. An end is shown a moment before it is recorded: that is waited
    for. Raises NotFound also for what has not ended, has failed, was deleted or is not stored."""
    conversation = await conversation_of(desk, caller, completion)
    until = time.monotonic() + desk.limits.completion_ended_seconds_max
    pause = desk.limits.end_recorded_poll_seconds
    while True:
        there = await _read(desk, conversation, answer_of(completion))
        if isinstance(there, Kept):
            return (await _dated(desk, [there]))[0]
        if there is None or time.monotonic() > until:
            raise not_there(completion)
        await asyncio.sleep(pause)
        pause = min(2 * pause, desk.limits.end_recorded_poll_seconds_max)


async def place_of(desk: Desk, caller: Caller, completion: str) -> Place:
    """Where in a list a stored completion stands, also before it is listed and after it was
    deleted. Raises NotFound."""
    conversation = await conversation_of(desk, caller, completion)
    recorded = await desk.gateway.recordings.load(conversation)
    state = CONVERSATIONS.replay(recorded)
    if state.kind is not Kind.COMPLETION or not state.stored:
        raise not_there(completion)
    return Place(recorded[0].meta.time, conversation)


async def listed(desk: Desk, places: Sequence[Listed]) -> tuple[list[Completion], int]:
    """What is there still of what a list names, and how many of its places that took: less than
    all, if the answers are large."""
    kept: list[Kept] = []
    size = read = 0
    for first in range(0, len(places), LOADED_AT_ONCE_MAX):
        some = places[first : first + LOADED_AT_ONCE_MAX]
        for there in await asyncio.gather(
            *(
                _read(desk, ConversationId(one.place.conversation), AnswerId(one.answer))
                for one in some
            )
        ):
            if size > desk.limits.completions_page_bytes_max:
                return await _dated(desk, kept), read
            read += 1
            if isinstance(there, Kept):
                size += len(there.ended.text.encode())
                kept.append(there)
    return await _dated(desk, kept), read


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored completion as its stream has it."""

    state: Conversation
    requested: AnswerRequested
    ended: AnswerEnded
    first: Meta
    """Of the stream's first event."""


async def _read(
    desk: Desk, conversation: ConversationId, answer: AnswerId
) -> Kept | Unended | None:
    """None: there is none, and will be none."""
    recorded = await desk.gateway.recordings.load(conversation)
    state = CONVERSATIONS.replay(recorded)
    if state.kind is not Kind.COMPLETION or state.deleted or not state.stored:
        return None
    ended = state.ends.get(answer)
    if ended is None:
        return UNENDED
    if ended.kind is EndKind.FAIL:
        return None
    return Kept(state, state.answers[answer], ended, recorded[0].meta)


async def _dated(desk: Desk, kept: Sequence[Kept]) -> list[Completion]:
    """With the times that their callers got: those of the store, looked up all at once."""
    times = await desk.gateway.recordings.stored_times(
        [(one.first.tenant, one.first.command) for one in kept]
    )
    made: list[Completion] = []
    for one in kept:
        created = times.get((one.first.tenant, one.first.command), one.first.time)
        asked = one.requested
        head = frames.Head(asked.answer, int(created.timestamp()), asked.model, asked.band)
        made.append(Completion(head, one.state, asked, one.ended))
    return made
