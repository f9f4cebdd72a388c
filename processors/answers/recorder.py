"""The recorder: one fold of each answer, two outputs.

What the fold says goes to the answer's live stream; the end that counts goes to the event store. An
offset is committed only up to the first record of the oldest answer that is not both ended and
recorded, so a recorder that starts anew folds all such answers again from their beginning. Both
outputs may be repeated: a live stream takes only what follows, the event store one end an answer.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

from events.answers import ended_event
from events.codec import Undecodable, decode_token_record
from events.ids import AnswerId, ConversationId, fresh_id
from processors.answers.recorder_folds import Following, PartitionFolds
from processors.answers.recorder_ports import (
    AnswerEnds,
    EndsUnavailable,
    LiveUnavailable,
    LiveWriter,
    LogRecord,
    Outcome,
    RunRefused,
    TokenLog,
)
from processors.answers.recorder_stages import first_read, first_shown

log = logging.getLogger("thalweg.recorder")

COMMIT_SECONDS = 1.0
"""Between commits: what lies in between is folded again after a kill."""
KEEP_UP_SECONDS = 0.5
"""Between signs of life for gateways, which believe one for two seconds."""
RECORDS_PER_READ_MAX = 500
READ_SECONDS_MAX = 0.25
"""An idle read comes back this often, to commit."""
ENDS_AT_ONCE_MAX = 64
"""Commands under way: the event store puts what has queued into one transaction."""
ENDS_WAITING_MAX = 2_000
"""Ends that wait for the event store. With more, reading pauses until it is back."""
RUNS_PER_PIPELINE_MAX = 200
"""Answers whose entries go to Redis in one round trip."""
RETRY_SECONDS_MIN = 0.05
RETRY_SECONDS_MAX = 2.0
"""Between attempts while Redis or Postgres is away."""
OWED_ENDED_MAX = 5_000
"""Recorded answers whose last entries Redis still lacks; with more, the oldest are dropped: their
readers find the recorded end."""
WARNING_SECONDS = 1.0
"""Between two warnings that the event store is away, however many ends wait for it."""


@dataclass
class Counts:
    """What became of records and answers since the start."""

    records: int = 0
    undecodable: int = 0
    recorded: int = 0
    unknown: int = 0
    refused: int = 0
    forgotten: int = 0


class Recorder:
    """Follows the log until cancelled. Everything it holds can be folded again from the log."""

    def __init__(
        self,
        live: LiveWriter,
        ends: AnswerEnds,
        *,
        answer_seconds_max: float,
        ends_waiting_max: int = ENDS_WAITING_MAX,
    ) -> None:
        self._live = live
        self._ends = ends
        self._answer_seconds_max = answer_seconds_max
        self._ends_waiting_max = ends_waiting_max
        self._name = str(fresh_id())
        self._partitions: dict[int, PartitionFolds] = {}
        self._committed: dict[int, int] = {}
        self._owing: OrderedDict[AnswerId, Following] = OrderedDict()
        self._owes = asyncio.Event()
        self._refused: dict[AnswerId, Following] = {}
        self._signed_at = 0.0
        self._waiting: set[asyncio.Task[None]] = set()
        self._warned_at = 0.0
        self._at_once = asyncio.Semaphore(ENDS_AT_ONCE_MAX)
        self._paused: frozenset[int] = frozenset()
        self._kept_up: set[int] = set()
        self.counts = Counts()

    @property
    def ends_waiting(self) -> int:
        """For the event store."""
        return len(self._waiting)

    # what the log tells

    def assigned(self, partitions: Iterable[int]) -> None:
        """From here on these are ours, from their committed offsets."""
        for partition in partitions:
            self._drop(partition)
            self._partitions[partition] = PartitionFolds(partition)

    def revoked(self, partitions: Iterable[int]) -> None:
        """These are somebody else's: what is known of them goes. Ends under way may finish."""
        for partition in partitions:
            self._drop(partition)

    def _drop(self, partition: int) -> None:
        gone = self._partitions.pop(partition, None)
        self._committed.pop(partition, None)
        self._kept_up.discard(partition)
        self._paused -= {partition}
        if gone is not None:
            for debts in (self._owing, self._refused):
                for answer in [a for a, f in debts.items() if f.partition == partition]:
                    del debts[answer]

    # the loops

    async def run(self, source: TokenLog) -> None:
        """Reads and records until cancelled."""
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(self._write_live(), name="recorder: live streams"),
                group.create_task(self._look_for_ended(), name="recorder: answers that look open"),
            ]
            try:
                await self._read(source)
            finally:
                for task in (*helpers, *self._waiting):
                    task.cancel()
                await asyncio.gather(*self._waiting, return_exceptions=True)

    async def _read(self, source: TokenLog) -> None:
        committed_at = time.monotonic()
        while True:
            await self._hold_back(source)
            records = await source.read(RECORDS_PER_READ_MAX, READ_SECONDS_MAX)
            now = time.monotonic()
            for record in records:
                self._take(record, now)
            if now - committed_at >= COMMIT_SECONDS:
                await self._commit(source)
                committed_at = now

    async def _hold_back(self, source: TokenLog) -> None:
        """With too many ends waiting for the event store nothing more is read: memory is bounded.

        The log is still polled, so that the group does not take us for dead.
        """
        ours = frozenset(self._partitions)
        if len(self._waiting) >= self._ends_waiting_max:
            if ours - self._paused:
                log.warning("reading pauses: ends wait for the event store")
                await source.pause(ours - self._paused)
                self._paused = ours
        elif self._paused and len(self._waiting) < self._ends_waiting_max // 2:
            await source.resume(self._paused & ours)
            self._paused = frozenset()

    def _take(self, record: LogRecord, now: float) -> None:
        folds = self._partitions.get(record.partition)
        if folds is None:
            return
        self.counts.records += 1
        try:
            decoded = decode_token_record(record.value)
            conversation = ConversationId(UUID((record.key or b"").decode()))
            following = folds.take(record.offset, conversation, decoded, now)
        except (Undecodable, ValueError, TypeError, AttributeError) as error:
            self.counts.undecodable += 1
            log.warning(
                "a token record can't be read and is skipped",
                extra={
                    "partition": record.partition,
                    "offset": record.offset,
                    "reason": str(error),
                },
            )
            folds.skip(record.offset)
            return
        if following is None:
            return
        first_read(following, record)
        if following.owes:
            self._owing[following.answer] = following
            self._owes.set()
        if following.fold.end is not None:  # nothing counts after it, so this is the one time
            task = asyncio.create_task(self._record_end(folds, following))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _commit(self, source: TokenLog) -> None:
        offsets = {
            folds.partition: safe
            for folds in self._partitions.values()
            if (safe := folds.safe_offset) is not None
            and self._committed.get(folds.partition) != safe
        }
        if offsets and await source.commit(offsets):
            self._committed |= {p: at for p, at in offsets.items() if p in self._partitions}

    async def _look_for_ended(self) -> None:
        """A late claim for an answer that is over looks like an open one: nothing waits for it."""
        while True:
            await asyncio.sleep(self._answer_seconds_max / 10)
            before = time.monotonic() - self._answer_seconds_max
            for folds in list(self._partitions.values()):
                for following in list(folds.open_since(before)):
                    try:
                        over = await self._ends.is_over(following.answer)
                    except EndsUnavailable:
                        break
                    if over and following.fold.end is None:
                        folds.forget(following.answer)
                        self._owing.pop(following.answer, None)
                        self._refused.pop(following.answer, None)
                        self.counts.forgotten += 1

    # ends

    async def _record_end(self, folds: PartitionFolds, following: Following) -> None:
        outcome = await self._recorded(following)
        folds.forget(following.answer)
        self._count(outcome, following.answer)
        following.recorded = True
        if self._partitions.get(following.partition) is folds:
            self._owing[following.answer] = following
            if following.streamed < following.said:  # an expiry alone goes along with others
                self._owes.set()

    async def _recorded(self, following: Following) -> Outcome:
        """Asks until the event store has said what became of the end."""
        try:
            ended = ended_event(following.conversation, following.fold)
        except ValueError:
            return Outcome.REFUSED
        delay = RETRY_SECONDS_MIN
        while True:
            try:
                async with self._at_once:
                    return await self._ends.record(ended)
            except EndsUnavailable as error:
                self._warn(error)
            except Exception:  # a bug must not lose an end, nor end all the others
                log.exception("an end can't be recorded", extra={"answer": str(following.answer)})
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_SECONDS_MAX)

    def _warn(self, error: EndsUnavailable) -> None:
        now = time.monotonic()
        if now - self._warned_at >= WARNING_SECONDS:
            self._warned_at = now
            log.warning(
                "ends can't be recorded now",
                extra={"waiting": len(self._waiting), "reason": str(error)},
            )

    def _count(self, outcome: Outcome, answer: AnswerId) -> None:
        match outcome:
            case Outcome.RECORDED:
                self.counts.recorded += 1
            case Outcome.UNKNOWN:
                self.counts.unknown += 1
                log.warning("an end of an unknown answer is dropped", extra={"answer": str(answer)})
            case Outcome.REFUSED:
                self.counts.refused += 1
                log.error("an end was refused and is dropped", extra={"answer": str(answer)})

    # live streams

    async def _write_live(self) -> None:
        """Whatever has gathered while the last round trip ran goes into the next.

        Under load something is always owed, so the sign of life does not wait for the debts.
        """
        delay = RETRY_SECONDS_MIN
        while True:
            wait = max(0.0, self._signed_at + KEEP_UP_SECONDS - time.monotonic())
            try:
                async with asyncio.timeout(wait):
                    await self._owes.wait()
            except TimeoutError:
                pass
            self._owes.clear()
            try:
                while self._owing:
                    await self._append_some()
                    await self._sign_if_due()
                await self._sign_if_due()
                delay = RETRY_SECONDS_MIN
            except LiveUnavailable as error:
                log.warning("live streams can't be written", extra={"reason": str(error)})
                self._bound_debts()
                self._owes.set()
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_SECONDS_MAX)

    async def _append_some(self) -> None:
        taken = list(islice(self._owing.values(), RUNS_PER_PIPELINE_MAX))
        runs = [following.run() for following in taken]
        has = await self._live.append(runs)
        for following, run, entries in zip(taken, runs, has, strict=True):
            if isinstance(entries, int):
                following.added(run, entries)
                first_shown(following, run)
                self._refused.pop(following.answer, None)
            if self._owing.get(following.answer) is not following:
                continue  # its partition went elsewhere meanwhile
            if isinstance(entries, RunRefused):
                self._set_aside(following, entries)
            elif following.owes:
                self._owing.move_to_end(following.answer)
            else:
                del self._owing[following.answer]

    def _set_aside(self, following: Following, refused: RunRefused) -> None:
        """One stream that can't be written holds up nobody else's; it is tried again later."""
        del self._owing[following.answer]
        if following.recorded:  # its readers find the recorded end
            self._refused.pop(following.answer, None)
            return
        if following.answer not in self._refused:
            log.warning(
                "a live stream takes no entries; it is tried again until the end is recorded."
                " If this lasts, delete its key in Redis",
                extra={"answer": str(following.answer), "reason": refused.reason},
            )
        self._refused[following.answer] = following

    async def _sign_if_due(self) -> None:
        if time.monotonic() - self._signed_at < KEEP_UP_SECONDS:
            return
        self._signed_at = time.monotonic()
        for answer, following in self._refused.items():
            if following.owes:
                self._owing.setdefault(answer, following)
                self._owes.set()
        await self._keep_up()

    async def _keep_up(self) -> None:
        """Where our own sign of life is gone, Redis lost its data: every stream is looked at."""
        ours = {p for p in self._partitions if p not in self._paused}
        if not ours:
            return
        without = await self._live.keep_up(ours, self._name)
        for partition in without & self._kept_up & self._partitions.keys():
            for following in self._partitions[partition].answers.values():
                if following.said:
                    self._owing[following.answer] = following
                    self._owes.set()
        self._kept_up |= ours

    def _bound_debts(self) -> None:
        ended = [answer for answer, following in self._owing.items() if following.recorded]
        for answer in ended[: max(0, len(ended) - OWED_ENDED_MAX)]:
            del self._owing[answer]
