"""The answering worker: takes requests, holds them, and reads the token log for them.

It holds back what it must not decide yet: no request of a partition is started before the
partition's tokens were folded up to their end at the assignment. What it knows of an answer comes
from that fold and the event store alone, so a killed worker's requests simply go on elsewhere.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from events.answers import EMPTY, Fold, fold
from events.changed import changed
from events.conversations import Band
from events.ids import AnswerId
from processors.answers.dispatch import Dispatcher, Ticket
from processors.answers.following import Following
from processors.answers.holding import Holding
from processors.answers.pace import Pace
from processors.answers.ports import LogUnavailable, Request, Requests, TokenLog, TokenRead, Work
from processors.answers.protocol_words import CancelAsked, GenerationChanged, Read
from processors.answers.standstill import Standstill
from processors.answers.surroundings import HoldingLimits, Surroundings
from processors.answers.tails import Asked, Births, Missed, Recall
from processors.answers.waiting import Waiting

log = logging.getLogger("thalweg.answers")

ENDED_ANSWERS_KEPT_MAX = 20_000  # repeats of a request come soon, or are known to the event store
EARLY_CANCELS_KEPT_MAX = 10_000  # a cancel overtakes its request by moments
PRIORITY_TIMES_MAX = 16  # times `unfinished_requests_max` that a worker takes of urgent requests
AGAIN_SECONDS = 0.5  # before the log is asked again


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """The bounds of a worker; the defaults and their reasons are in the settings."""

    holding: HoldingLimits
    unfinished_requests_max: int
    token_margin_seconds: float


class Worker:
    """Lives on one event loop. `run` it; tell it of assignments, requests and cancels."""

    def __init__(
        self,
        name: str,
        *,
        tokens: TokenLog,
        work: Work,
        requests: Requests,
        dispatcher: Dispatcher,
        limits: WorkerLimits,
    ) -> None:
        self.name = name
        self._tokens = tokens
        self._work = work
        self._limits = limits
        margin_ms = int(limits.token_margin_seconds * 1_000)
        self._around = Surroundings(
            name,
            tokens,
            requests,
            dispatcher,
            limits.holding,
            Pace(limits.holding.chunk_delay_seconds_max),
            work.is_member,
            self._missed,
        )
        self._generation = 0
        self._following = Following(tokens, work, margin_ms=margin_ms, folded=self._folded)
        self._tails = self._following.tails
        self._recall = Recall(tokens, self._tails, self._join)
        self._to_recall = asyncio.Event()
        self._whole: set[AnswerId] = set()
        """Held, and folded from before their birth."""
        self._births = Births(margin_ms)
        self._held: dict[AnswerId, Holding] = {}
        self._waiting = Waiting(
            dispatcher,
            folded=self._said,
            needs_no_engine=lambda answer: answer in self._cancels,
            start=self._start,
        )
        self._ended: OrderedDict[AnswerId, Fold] = OrderedDict()
        self._cancels: OrderedDict[AnswerId, None] = OrderedDict()
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def held(self) -> int:
        """How many requests it works on."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """How many requests it has taken and not started."""
        return len(self._waiting) + len(self._recall.missed)

    @property
    def ready(self) -> bool:
        """It has partitions, and has folded them all."""
        return self._following.ready

    async def run(self) -> None:
        """Until it is cancelled; then all is dropped, without an end or an acknowledgement."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read())
                group.create_task(self._following.run())
                group.create_task(self._recall_missed())
                group.create_task(Standstill(self._held).watch())
        finally:
            self._waiting.drop(self._following.owned)  # else what ends now makes room for it
            self._following.drop()
            for holding in list(self._held.values()):
                self._ending.update(holding.abandon())
            self._held.clear()
            await asyncio.gather(*self._ending, return_exceptions=True)

    # what Kafka says ----------------------------------------------------------------------

    def assigned(self, generation: int, partitions: Collection[int]) -> None:
        """The group was rebalanced: this is the generation, and these are now this worker's.

        Only the work of partitions that it has lost is stopped.
        """
        self._generation = generation
        gained, lost = self._following.owns(generation, partitions)
        self._whole.difference_update(self._waiting.drop(lost))
        self._around.dispatcher.owns(self._following.owned)
        for missed in list(self._recall.missed.values()):
            if missed.asked.request.place.partition in lost:
                del self._recall.missed[missed.asked.request.answer]
        self._births.forget(lost)
        for holding in list(self._held.values()):
            owned = holding.request.place.partition not in lost
            holding.put(GenerationChanged(generation, owned))
        log.info(
            "partitions were assigned",
            extra={
                "generation": generation,
                "gained": sorted(gained),
                "lost": sorted(lost),
                "partitions": len(self._following.owned),
            },
        )
        self._start_some()

    def take(self, request: Request) -> None:
        """A request has come. It may come again, from another place or from the same."""
        place = request.place
        if place.partition not in self._following.owned:
            return  # it comes again if the partition does
        self._births.came(request)
        known = (
            self._held.get(request.answer)
            or self._waiting.get(request.answer)
            or self._recall.asked(request.answer)
        )
        if known is not None:
            if place not in known.places:
                known.places.append(place)
            return
        if request.answer in self._ended:
            self._work.acknowledge(place)
            return
        self._waiting.put(Asked(request, [place]))
        self._start_some()

    def cancel(self, answer: AnswerId) -> None:
        """A cancel has come, maybe before its request. The event store knows of it too."""
        holding = self._held.get(answer)
        if holding is not None:
            holding.put(CancelAsked())
        if holding is not None or answer in self._ended:
            return
        self._cancels[answer] = None
        self._waiting.start_now(answer)
        while len(self._cancels) > EARLY_CANCELS_KEPT_MAX:
            self._cancels.popitem(last=False)

    # requests -----------------------------------------------------------------------------

    def _start_some(self) -> None:
        self._waiting.step()
        taken, room = self.held + self.waiting, self._limits.unfinished_requests_max
        if taken < room:
            self._work.hold_back(())
        else:  # cancels come with the priority band, so that one is held back last
            flooded = taken >= room * PRIORITY_TIMES_MAX
            self._work.hold_back(tuple(Band) if flooded else (Band.DEFAULT, Band.FLEX))

    def _said(self, asked: Asked) -> Fold | None:
        """What is known of an answer that is not held; None: its partition is not folded yet."""
        answer, tail = asked.request.answer, self._tails.get(asked.request.place.partition)
        if tail is None or not tail.ready:
            return None
        return self._ended.get(answer) or tail.folds.get(answer, EMPTY)

    def _start(self, asked: Asked, ticket: Ticket) -> None:
        request = asked.request
        said = self._said(asked) or EMPTY
        self._tails[request.place.partition].folds.pop(request.answer, None)
        holding = Holding(request, self._around, self._on_gone, ticket)
        holding.places, holding.calls.heard.before = asked.places, said.tokens
        self._held[request.answer] = holding
        log.debug(
            "a request is held",
            extra={
                "answer": str(request.answer),
                "said": said.next_index,
                "claim": str(said.claim),
            },
        )
        holding.start(said, self._generation)
        if request.answer in self._cancels:
            del self._cancels[request.answer]
            holding.put(CancelAsked())

    def _on_gone(self, holding: Holding, acknowledged: bool) -> None:
        answer = holding.request.answer
        self._held.pop(answer, None)
        self._whole.discard(answer)
        self._ending.update(holding.abandon())
        self._ending = {task for task in self._ending if not task.done()}
        if acknowledged:
            for place in holding.places:
                self._work.acknowledge(place)
            if holding.state.fold.end is not None:
                self._around.dispatcher.meter.wasted(
                    holding.calls.heard.wasted(holding.state.fold.tokens)
                )
                self._remember(answer, holding.state.fold)
        asyncio.get_running_loop().call_soon(self._start_some)

    def _missed(self, request: Request, age_seconds: float) -> bool:
        """See `Surroundings`."""
        holding, partition = self._held.get(request.answer), request.place.partition
        tail = self._tails.get(partition)
        if holding is None or tail is None or not request.appended_ms:
            return False
        since_ms = self._births.missed_since(request, age_seconds, tail)
        if since_ms is None or request.answer in self._whole:
            return False
        log.warning(
            "a request is older than the tokens that were read: they are read from before it",
            extra={"answer": str(request.answer), "partition": partition, "age": age_seconds},
        )
        del self._held[request.answer]
        self._ending.update(holding.abandon())
        asked = Asked(request, holding.places)
        self._recall.missed[request.answer] = Missed(asked, since_ms)
        self._to_recall.set()
        return True

    def _join(self, partition: int, folds: Mapping[AnswerId, Fold]) -> None:
        """What was read from before the tail goes on in it; its requests can be started now."""
        tail = self._tails[partition]
        for answer, said in folds.items():
            missed = self._recall.missed.pop(answer, None)
            if missed is None:
                continue
            self._ended.pop(answer, None)
            tail.folds.pop(answer, None)
            if said.end is not None:
                self._remember(answer, said)
            elif said is not EMPTY:
                tail.folds[answer] = said
            self._whole.add(answer)
            self._waiting.put(missed.asked)
        asyncio.get_running_loop().call_soon(self._start_some)

    def _remember(self, answer: AnswerId, said: Fold) -> None:
        """That an answer has ended, without its text: nothing counts after an end."""
        self._ended[answer] = changed(said, chunks=(), logprobs=())
        self._cancels.pop(answer, None)
        while len(self._ended) > ENDED_ANSWERS_KEPT_MAX:
            self._ended.popitem(last=False)

    # tokens -------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            for read in await self._tokens.read():
                self._take_in(read)

    def _take_in(self, read: TokenRead) -> None:
        tail = self._tails.get(read.partition)
        if tail is None or read.offset < tail.next:
            return
        for folds in tail.due(read.offset):
            self._join(read.partition, folds)
        was_ready, tail.next = tail.ready, read.offset + 1
        record = read.record
        if record is not None:
            holding = self._held.get(record.answer)
            if holding is not None:
                holding.put(Read(record))
            elif record.answer not in self._ended:
                said = fold(tail.folds.get(record.answer, EMPTY), record)
                if said.end is not None:
                    tail.folds.pop(record.answer, None)
                    self._remember(record.answer, said)
                    self._waiting.start_now(record.answer)
                elif said is not EMPTY:  # the rest of an answer that began before this tail
                    tail.folds[record.answer] = said
        for folds in tail.due(tail.next):
            self._join(read.partition, folds)
        if tail.ready and not was_ready:
            self._folded(read.partition)

    async def _recall_missed(self) -> None:
        while True:
            await self._to_recall.wait()
            self._to_recall.clear()
            while (partition := self._recall.partition()) is not None:
                try:
                    await self._recall.read(partition)
                except LogUnavailable as error:
                    log.warning("earlier tokens cannot be read now", extra={"error": str(error)})
                    await asyncio.sleep(AGAIN_SECONDS)

    def _folded(self, partition: int) -> None:
        tail = self._tails[partition]
        log.info(
            "tokens were folded",
            extra={"partition": partition, "end": tail.end, "open_answers": len(tail.folds)},
        )
        self._start_some()
