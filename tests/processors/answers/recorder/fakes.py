"""A log of tokens, an event store for ends, and answers that are said into the log."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from events.answers import Chunk, Claim, ClaimId, End, Entry, Fold, TokenRecord, entries, fold
from events.codec import encode_token_record
from events.conversations import AnswerEnded, EndKind, Usage
from events.ids import AnswerId, ConversationId, fresh_id
from processors.answers.recorder import Recorder
from processors.answers.recorder_ports import EndsUnavailable, LogRecord, Outcome


@dataclass
class MemoryLog:
    """One partition of `thalweg.tokens`, and the group's committed offset."""

    records: list[LogRecord] = field(default_factory=list)
    committed: int = 0
    paused: bool = False
    age_seconds: float = 0
    """How long ago what is written now was appended."""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, conversation: ConversationId, record: TokenRecord) -> None:
        self.write_raw(str(conversation).encode(), encode_token_record(record))

    def write_raw(self, key: bytes | None, value: bytes | None) -> None:
        appended_ms = int((time.time() - self.age_seconds) * 1_000)
        self.records.append(LogRecord(0, len(self.records), key, value, appended_ms))
        self.news.set()


class MemoryTokenLog:
    """A recorder's membership: reads from the committed offset, as a group would have it."""

    def __init__(self, log: MemoryLog, recorder: Recorder) -> None:
        self._log = log
        self.at = log.committed
        self.commits: list[int] = []
        recorder.assigned([0])

    async def read(self, records_max: int, seconds_max: float) -> Sequence[LogRecord]:
        if self.at >= len(self._log.records) or self._log.paused:
            self._log.news.clear()
            try:
                async with asyncio.timeout(0.01):
                    await self._log.news.wait()
            except TimeoutError:
                return []
        if self._log.paused:
            return []
        found = self._log.records[self.at : self.at + records_max]
        self.at += len(found)
        return found

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        self._log.committed = offsets[0]
        self.commits.append(offsets[0])
        return True

    async def pause(self, partitions: Iterable[int]) -> None:
        self._log.paused = True

    async def resume(self, partitions: Iterable[int]) -> None:
        self._log.paused = False
        self._log.news.set()


@dataclass
class MemoryEnds:
    """Where ends are recorded. `away` makes every call fail."""

    known: set[AnswerId] = field(default_factory=set)
    recorded: dict[AnswerId, AnswerEnded] = field(default_factory=dict)
    calls: int = 0
    away: bool = False

    async def record(self, ended: AnswerEnded) -> Outcome:
        await asyncio.sleep(0)
        self.calls += 1
        if self.away:
            raise EndsUnavailable("away")
        if ended.answer not in self.known:
            return Outcome.UNKNOWN
        self.recorded.setdefault(ended.answer, ended)
        return Outcome.RECORDED

    async def is_over(self, answer: AnswerId) -> bool:
        if self.away:
            raise EndsUnavailable("away")
        return answer in self.recorded or answer not in self.known


class Speaker:
    """A worker that says one answer into the log."""

    def __init__(self, log: MemoryLog, ends: MemoryEnds | None = None) -> None:
        self._log = log
        self.answer = AnswerId(fresh_id())
        self.conversation = ConversationId(fresh_id())
        self.claim_id = ClaimId(1, fresh_id())
        self.fold = Fold()
        if ends is not None:
            ends.known.add(self.answer)

    @property
    def entries(self) -> list[Entry]:
        return entries(self.fold)

    def _write(self, record: TokenRecord) -> None:
        self.fold = fold(self.fold, record)
        self._log.write(self.conversation, record)

    def claim(self, epoch: int = 1, traceparent: str | None = None) -> None:
        self.claim_id = ClaimId(epoch, fresh_id())
        self._write(Claim(self.answer, self.claim_id, "w", "m", traceparent=traceparent))

    def say(self, *texts: str) -> None:
        for text in texts:
            self._write(Chunk(self.answer, self.claim_id, self.fold.next_index, text, 1))

    def end(self, text: str = "") -> None:
        index = self.fold.next_index
        usage = Usage(prompt_tokens=1, completion_tokens=index)
        self._write(
            End(self.answer, self.claim_id, index, EndKind.FINISH, "stop", None, text, 0, usage)
        )
