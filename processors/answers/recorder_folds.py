"""The pure part of the recorder: the answers of a partition, and from where to read them again."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from events.answers import EMPTY, Claim, Fold, TokenRecord, chunk_entries, end_entry, fold
from events.ids import AnswerId, ConversationId
from processors.answers.recorder_ports import Run

ENTRIES_PER_RUN_MAX = 256
"""Entries of one answer that go to its live stream at once."""
FORGOTTEN_MAX = 10_000
"""Answers that are over, whose late records are passed over at once instead of looking open."""


@dataclass(slots=True)
class Following:
    """One answer that is being followed."""

    answer: AnswerId
    conversation: ConversationId
    partition: int
    first_offset: int
    seen_at: float
    fold: Fold = EMPTY
    streamed: int = 0
    """Entries that its live stream has, as far as we know."""
    traceparent: str | None = None
    """Of the request, as the claims carry it."""
    first_read_ns: int | None = None
    """When its first entry was read, until its live stream has that; for spans."""
    recorded: bool = False
    expiry_set: bool = False

    @property
    def said(self) -> int:
        """Entries that the fold has."""
        return self.fold.next_index + (self.fold.end is not None)

    @property
    def owes(self) -> bool:
        """Whether the live stream lacks something."""
        return self.streamed < self.said or (self.recorded and not self.expiry_set)

    def run(self) -> Run:
        """What to add next to the live stream."""
        until = min(self.said, self.streamed + ENTRIES_PER_RUN_MAX)
        entries = chunk_entries(self.fold, self.streamed, until)
        if self.fold.end is not None and until == self.said and self.streamed < self.said:
            entries.append(end_entry(self.fold.end))
        return Run(self.answer, self.streamed, entries, self.recorded)

    def added(self, run: Run, has: int) -> None:
        """The live stream has `has` entries after `run`."""
        self.streamed = has
        if run.recorded and has >= self.said:
            self.expiry_set = True


@dataclass(slots=True)
class PartitionFolds:
    """The answers of one partition that are not over yet."""

    partition: int
    next_offset: int | None = None
    answers: dict[AnswerId, Following] = field(default_factory=dict)
    """In the order of their first records."""
    over: OrderedDict[AnswerId, None] = field(default_factory=OrderedDict)
    """The last ones that are over."""

    def take(
        self,
        offset: int,
        conversation: ConversationId,
        record: TokenRecord,
        now: float,
    ) -> Following | None:
        """The answer that the record changed; None if it does not count.

        An answer begins with a claim that counts: what comes before one, here, is the rest of an
        answer that is over. Raises TypeError, ValueError or AttributeError for a record whose
        fields are not what they should be.
        """
        self.next_offset = offset + 1
        if record.answer in self.over:
            return None
        following = self.answers.get(record.answer)
        before = EMPTY if following is None else following.fold
        after = fold(before, record)
        if after is before:
            return None
        if following is None:
            following = Following(record.answer, conversation, self.partition, offset, now)
            self.answers[record.answer] = following
        following.fold = after
        if isinstance(record, Claim):
            following.traceparent = record.traceparent
        return following

    def skip(self, offset: int) -> None:
        """The record at that offset says nothing."""
        self.next_offset = offset + 1

    def forget(self, answer: AnswerId) -> None:
        """It is over: it holds no offset back any more."""
        self.answers.pop(answer, None)
        self.over[answer] = None
        while len(self.over) > FORGOTTEN_MAX:
            self.over.popitem(last=False)

    @property
    def safe_offset(self) -> int | None:
        """Where a new reader must start so that it folds every answer that is not over."""
        oldest = next(iter(self.answers.values()), None)
        return self.next_offset if oldest is None else oldest.first_offset

    def open_since(self, before: float) -> Iterator[Following]:
        """Answers without an end whose first record was seen before that time."""
        for following in self.answers.values():
            if following.seen_at > before:
                return
            if following.fold.end is None:
                yield following
