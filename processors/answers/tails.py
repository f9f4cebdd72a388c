"""How far a worker has read a partition's tokens, and what it found of answers it does not hold.

A tail begins somewhere in the log. Of an answer that was asked for before that, it may have missed
the first claim, and then its fold is not the truth: `Recall` reads what is missing.
"""

from collections.abc import Callable, Mapping
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
