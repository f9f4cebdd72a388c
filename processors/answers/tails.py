"""How far a worker has read a partition's tokens, and what it found of answers it does not hold.

A tail begins somewhere in the log. Of an answer that was asked for before that, it may have missed
the first claim, and then its fold is not the truth: `Recall` reads what is missing.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from events.answers import EMPTY, Fold, fold
from events.ids import AnswerId
from processors.answers.ports import Place, Request, TokenLog


@dataclass(slots=True)
class Asked:
    """A request that waits to be started."""

    request: Request
    places: list[Place]


@dataclass(slots=True)
class Tail:
    """How far a partition's tokens are read."""

    next: int
    end: int
    """At the assignment."""
    since_ms: int
    """It has all records from then on, by the log's clock."""
    folds: dict[AnswerId, Fold] = field(default_factory=dict)
    """Of open answers that are not held. None is dropped before the partition is: whoever took a
    begun answer for a new one would write an end at index 0 and believe in it.
    """
    joins: list[tuple[int, Mapping[AnswerId, Fold]]] = field(default_factory=list)
    """Folds that were read from an earlier begin up to an offset that this tail has yet to reach.
    """

    @property
    def ready(self) -> bool:
        return self.next >= self.end

    def due(self, offset: int) -> list[Mapping[AnswerId, Fold]]:
        """What joins this tail before the record at `offset`."""
        found = [folds for at, folds in self.joins if at <= offset]
        self.joins = [one for one in self.joins if one[0] > offset]
        return found


class Births:
    """Tells whether a request was born before the tail of its partition begins.

    One that comes again was born before its newest work record. So two differences of clocks, each
    of one clock: how old it is, by the event store's, and when Kafka had got some record at the
    latest. Where nothing was unacknowledged the tail begins by this machine's clock; but whatever
    came first since came after that.
    """

    def __init__(self, margin_ms: int) -> None:
        self._margin_ms = margin_ms
        self._newest_ms = 0
        """Kafka's clock, at least: when the newest request that came was appended."""
        self._first_ms: dict[int, int] = {}
        """The same of the first request of each partition that is owned."""

    def came(self, request: Request) -> None:
        if request.appended_ms:
            self._newest_ms = max(self._newest_ms, request.appended_ms)
            self._first_ms.setdefault(request.place.partition, request.appended_ms)

    def forget(self, partitions: Collection[int]) -> None:
        """They are not owned any more."""
        for partition in partitions:
            self._first_ms.pop(partition, None)

    def missed_since(self, request: Request, age_seconds: float, tail: Tail) -> int | None:
        """No token record of it is older, by the log's clock; None: the tail has them all."""
        born_ms = self._newest_ms - int(age_seconds * 1_000)
        first_ms = self._first_ms.get(request.place.partition, tail.since_ms)
        if born_ms >= min(tail.since_ms, first_ms - self._margin_ms):
            return None
        return born_ms - self._margin_ms


@dataclass(slots=True)
class Missed:
    """A request that was born before the tail of its partition begins."""

    asked: Asked
    since_ms: int
    """No record of it is older."""
    reading: bool = False


class Recall:
    """Folds those requests again from before their birth, all of a partition in one reading."""

    def __init__(
        self,
        tokens: TokenLog,
        tails: Mapping[int, Tail],
        join: Callable[[int, Mapping[AnswerId, Fold]], None],
    ) -> None:
        self._tokens = tokens
        self._tails = tails
        self._join = join
        self.missed: dict[AnswerId, Missed] = {}

    def asked(self, answer: AnswerId) -> Asked | None:
        missed = self.missed.get(answer)
        return None if missed is None else missed.asked

    def partition(self) -> int | None:
        """One whose missed requests nobody reads yet."""
        return next(
            (one.asked.request.place.partition for one in self.missed.values() if not one.reading),
            None,
        )

    async def read(self, partition: int) -> None:
        """Reads until it meets the tail; there the two are one. Raises LogUnavailable."""
        tail = self._tails.get(partition)
        wanted = {
            answer: one
            for answer, one in self.missed.items()
            if one.asked.request.place.partition == partition and not one.reading
        }
        if tail is None or not wanted:
            return
        for one in wanted.values():
            one.reading = True
        try:
            await self._read_up_to(tail, partition, wanted)
        except BaseException:
            for one in wanted.values():
                one.reading = False
            raise

    async def _read_up_to(
        self, tail: Tail, partition: int, wanted: Mapping[AnswerId, Missed]
    ) -> None:
        since_ms = min(one.since_ms for one in wanted.values())
        conversations = {one.asked.request.conversation for one in wanted.values()}
        folds = dict.fromkeys(wanted, EMPTY)
        earlier = self._tokens.earlier(partition, since_ms, conversations)
        async with aclosing(earlier) as reading:
            async for following, reads in reading:
                for read in reads:
                    record = read.record
                    if record is not None and record.answer in folds:
                        folds[record.answer] = fold(folds[record.answer], record)
                if self._tails.get(partition) is not tail:
                    return  # the partition went; whoever was missed was dropped with it
                if following >= tail.next:
                    # Before anything is awaited: the tail goes on meanwhile.
                    if following == tail.next:
                        self._join(partition, folds)
                    else:
                        tail.joins.append((following, folds))
                    return
