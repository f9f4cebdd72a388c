"""What a model says: the records of `thalweg.tokens`, and the fold that decides what they mean.

Several workers may write records about one answer: one was killed, one woke up late, one does not
know yet that its partition went elsewhere. Every reader runs the same fold over the same log, so
all see the same text, whatever was written. The rules (docs/protocol.md says why each is needed):

- A claim counts if the answer has not ended and the claim is greater than the current one.
- A chunk or an end counts only if its claim is the current one and its index is the next.
- The first end that counts closes the answer; nothing counts after it.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID

from events.changed import changed
from events.conversations import AnswerEnded, EndKind, Seam, TokenLogprob, Usage
from events.ids import AnswerId, ConversationId

Logprobs = tuple[TokenLogprob, ...]
"""Of the tokens whose text ends in one chunk; empty: not asked for, or not given."""

PROTOCOL_VERSION = 1
"""The version of the rules above. A claim carries it."""


class ClaimId(NamedTuple):
    """A fencing token: compared by epoch first (the consumer group's generation), then by id."""

    epoch: int
    id: UUID


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker says that it will speak this answer from here on."""

    answer: AnswerId
    claim: ClaimId
    worker: str
    model: str
    """What will speak."""
    protocol: int = PROTOCOL_VERSION
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of text: whole characters, nothing that may still become part of a stop sequence."""

    answer: AnswerId
    claim: ClaimId
    index: int
    """Counts chunks and the end densely from 0, across claims."""
    text: str
    tokens: int
    seam: bool = False
    """A further call to an engine begins here, under the same claim."""
    token_ids: tuple[int, ...] | None = None
    logprobs: Logprobs = ()


@dataclass(frozen=True, slots=True)
class End:
    """The answer is over. Carries the last text, and takes the next index."""

    answer: AnswerId
    claim: ClaimId
    index: int
    kind: EndKind
    reason: str
    error: str | None
    text: str
    tokens: int
    usage: Usage
    logprobs: Logprobs = ()


TokenRecord = Claim | Chunk | End


@dataclass(frozen=True)  # no slots: see `changed`
class Fold:
    """The truth about one answer, after some prefix of the log."""

    claim: ClaimId | None = None
    model: str = ""
    chunks: tuple[str, ...] = ()
    """The text of each chunk that counted; the next index is their number."""
    tokens: int = 0
    text_bytes: int = 0
    claims_without_progress: int = 0
    """Counted claims in a row since the last chunk."""
    spoken_by: ClaimId | None = None
    """The claim of the last chunk that counted."""
    seams: tuple[Seam, ...] = ()
    logprobs: tuple[Logprobs, ...] = ()
    """Of the chunks, from the first on; it ends with the last chunk that has any."""
    end: End | None = None

    @property
    def next_index(self) -> int:
        return len(self.chunks)

    @property
    def text(self) -> str:
        """All text that counted so far, the end's included."""
        last = self.end.text if self.end is not None else ""
        return "".join(self.chunks) + last


EMPTY = Fold()


def fold(state: Fold, record: TokenRecord) -> Fold:
    """The state after `record`. The very same object is returned if the record does not count."""
    if state.end is not None:
        return state
    if isinstance(record, Claim):
        if state.claim is not None and record.claim <= state.claim:
            return state
        return changed(
            state,
            claim=record.claim,
            model=record.model,
            claims_without_progress=state.claims_without_progress + 1,
        )
    if record.claim != state.claim or record.index != state.next_index:
        return state
    if isinstance(record, End):
        return changed(
            state,
            seams=_seams(state, record, continued=False),
            tokens=state.tokens + record.tokens,
            text_bytes=state.text_bytes + len(record.text.encode()),
            end=record,
        )
    return changed(
        state,
        chunks=(*state.chunks, record.text),
        tokens=state.tokens + record.tokens,
        text_bytes=state.text_bytes + len(record.text.encode()),
        claims_without_progress=0,
        spoken_by=record.claim,
        seams=_seams(state, record, continued=record.seam),
        logprobs=_with_logprobs(state, record),
    )


def _with_logprobs(state: Fold, record: Chunk | End) -> tuple[Logprobs, ...]:
    if not record.logprobs:
        return state.logprobs
    none: tuple[Logprobs, ...] = ((),) * (record.index - len(state.logprobs))
    return (*state.logprobs, *none, record.logprobs)


def _seams(state: Fold, record: Chunk | End, *, continued: bool) -> tuple[Seam, ...]:
    taken_over = state.spoken_by is not None and state.spoken_by != record.claim
    if (taken_over and record.text) or continued:
        return (*state.seams, Seam(index=record.index, model=state.model))
    return state.seams


@dataclass(frozen=True, slots=True)
class Entry:
    """One element of an answer's stream as readers get it: a chunk, or (with `end`) the end.

    The same answer gives the same entries for ever, whether they come from Redis, from the fold of
    the log or from the recorded end.
    """

    index: int
    text: str
    end: "EntryEnd | None" = None
    logprobs: Logprobs = ()


@dataclass(frozen=True, slots=True)
class EntryEnd:
    kind: EndKind
    reason: str
    error: str | None
    usage: Usage


def entries(state: Fold) -> list[Entry]:
    """The stream of an answer so far."""
    said = chunk_entries(state, 0, state.next_index)
    if state.end is not None:
        said.append(end_entry(state.end))
    return said


def chunk_entries(state: Fold, first: int, until: int) -> list[Entry]:
    """The chunks from index `first` on, up to, but without, `until`."""
    said = [Entry(index, text) for index, text in enumerate(state.chunks[first:until], first)]
    if len(state.logprobs) <= first:
        return said
    return [replace(entry, logprobs=_at(state.logprobs, entry.index)) for entry in said]


def _at(logprobs: tuple[Logprobs, ...], index: int) -> Logprobs:
    return logprobs[index] if index < len(logprobs) else ()


def end_entry(end: End) -> Entry:
    how = EntryEnd(end.kind, end.reason, end.error, end.usage)
    return Entry(end.index, end.text, how, end.logprobs)


def entries_of_ended(ended: AnswerEnded) -> list[Entry]:
    """The stream of an answer from its recorded end: equal to `entries` of its fold."""
    said: list[Entry] = []
    at = 0
    logprobs = ended.logprobs or ()
    for index, length in enumerate(ended.chunk_lengths):
        said.append(Entry(index, ended.text[at : at + length], None, _at(logprobs, index)))
        at += length
    end = EntryEnd(ended.kind, ended.reason, ended.error, ended.usage)
    return [*said[:-1], replace(said[-1], end=end)]


def ended_event(conversation: ConversationId, state: Fold) -> AnswerEnded:
    """The event that records a fold that has its end. Raises ValueError for one that has none."""
    end = state.end
    if end is None:
        raise ValueError("only an answer whose fold has an end can be recorded")
    return AnswerEnded(
        conversation=conversation,
        answer=end.answer,
        kind=end.kind,
        reason=end.reason,
        error=end.error,
        text=state.text,
        chunk_lengths=(*(len(text) for text in state.chunks), len(end.text)),
        logprobs=_with_logprobs(state, end) or None,
        seams=state.seams,
        usage=end.usage,
    )
