"""Reads the tokens of the partitions that a worker owns, and of no others: a tail for each."""

import asyncio
import logging
from collections.abc import Callable, Collection

from processors.answers.ports import LogUnavailable, TokenLog, Work
from processors.answers.tails import Tail

log = logging.getLogger("thalweg.answers")

AGAIN_SECONDS = 0.5  # before the log is asked again


class Following:
    """Of one worker. `run` it, and say what it `owns`. Whoever reads the log puts into the tails
    what comes."""

    def __init__(
        self, tokens: TokenLog, work: Work, *, margin_ms: int, folded: Callable[[int], None]
    ) -> None:
        """`margin_ms`: how much older tokens may be than the oldest request that asks for them.
        `folded`: a partition had nothing to read, and its tail is ready."""
        self._tokens = tokens
        self._work = work
        self._margin_ms = margin_ms
        self._folded = folded
        self.tails: dict[int, Tail] = {}
        """Of partitions that are owned; there is none before it is known where it begins."""
        self._owned: dict[int, int] = {}  # partition: the generation in which it was gained
        self._to_stop: set[int] = set()
        self._changed = asyncio.Event()

    @property
    def owned(self) -> Collection[int]:
        return self._owned.keys()

    @property
    def ready(self) -> bool:
        """It has partitions, and all are folded."""
        return bool(self._owned) and all(
            partition in self.tails and self.tails[partition].ready for partition in self._owned
        )

    def owns(self, generation: int, partitions: Collection[int]) -> tuple[set[int], set[int]]:
        """From now on these; what was gained and what was lost by that."""
        gained = set(partitions) - set(self._owned)
        lost = set(self._owned) - set(partitions)
        self._owned = {
            each: generation if each in gained else self._owned[each] for each in partitions
        }
        for partition in lost:
            if self.tails.pop(partition, None) is not None:
                self._to_stop.add(partition)
        self._changed.set()
        return gained, lost

    def drop(self) -> None:
        """Nothing is owned any more, and nothing is read."""
        self._owned.clear()
        self.tails.clear()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._follow_once()
            except LogUnavailable as error:
                log.warning("the token log cannot be read now", extra={"error": str(error)})
                await asyncio.sleep(AGAIN_SECONDS)
                self._changed.set()

    async def _follow_once(self) -> None:
        while self._to_stop:
            stopping = set(self._to_stop)
            await self._tokens.stop(stopping)
            self._to_stop -= stopping
        gained = {each: at for each, at in self._owned.items() if each not in self.tails}
        if not gained:
            return
        oldest = await self._work.oldest(gained)
        spans = await self._tokens.locate({each: oldest[each] - self._margin_ms for each in gained})
        begun = {
            partition: span
            for partition, span in spans.items()
            if self._owned.get(partition) == gained[partition]
        }
        if len(begun) < len(spans):  # lost meanwhile, and maybe gained again: another end by now
            self._changed.set()
        for partition, span in begun.items():
            self.tails[partition] = Tail(span.first, span.end, oldest[partition] - self._margin_ms)
        await self._tokens.begin({partition: span.first for partition, span in begun.items()})
        for partition in begun:
            if partition in self.tails and self.tails[partition].ready:
                self._folded(partition)
