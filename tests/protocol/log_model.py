"""The model of the partition of `thalweg.tokens`: logs, their folds, and what must hold of them.

Every log that is written gets a number. All readers (gateways, recorders, workers) see the fold of
some beginning of the log, so what is checked here when a record is appended holds for all of them.
"""

from typing import Any
from uuid import UUID

from events.answers import EMPTY, Chunk, Claim, ClaimId, End, Fold, TokenRecord, entries
from events.conversations import EndKind
from processors.answers.engine import FinishReason
from processors.answers.protocol_words import EngineFinished, Said
from tests.protocol.explorer import Violated
from tests.protocol.setting import Setting

IDS_PER_WORKER = 1000
"""Claim ids of worker B are all greater than A's: their clocks differ."""


class Engine:
    """Says characters that tell what they continue: the text before, and their claim."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._symbols: dict[tuple[str, ClaimId], str] = {}
        self.said_before: dict[str, str] = {}

    def says(self, call: int, claim: ClaimId, text: str, said: int) -> Said | EngineFinished:
        """What comes after `text`, of which this call has said the last `said` characters."""
        chunks = self._setting.chunks
        if len(text) < chunks and said >= self._setting.call_tokens_max:
            return EngineFinished(call, FinishReason.LENGTH)
        symbol = self._symbols.get((text, claim))
        if symbol is None:
            symbol = self._symbols[text, claim] = chr(0x4E00 + len(self._symbols))
            self.said_before[symbol] = text
        if len(text) < chunks:
            return Said(call, symbol, 1)
        return EngineFinished(call, FinishReason.STOP, symbol, 1)


class Logs:
    def __init__(self, setting: Setting, engine: Engine) -> None:
        self._setting = setting
        self._engine = engine
        self.records: list[TokenRecord] = []
        self._record_ids: dict[TokenRecord, int] = {}
        self.logs: list[tuple[int, ...]] = [()]
        self.truths: list[tuple[Fold, ...]] = [(EMPTY,)]
        """For each log: the fold of each of its beginnings."""
        self._longer: dict[tuple[int, int], int] = {}
        self._without_effect: set[tuple[int, int]] = set()
        self._alive: dict[tuple[Any, ...], tuple[int, ...]] = {}

    def record_id(self, record: TokenRecord) -> int:
        number = self._record_ids.get(record)
        if number is None:
            number = self._record_ids[record] = len(self.records)
            self.records.append(record)
        return number

    def truth(self, log: int) -> Fold:
        return self.truths[log][-1]

    def append(self, log: int, record: int, live: tuple[ClaimId, ...]) -> int:
        """The longer log. `live` are the claims of machines that still listen: such a one may yet
        find out that its own record does not count. For everybody else a record that does not
        count is as if it were not there, and the model leaves it away."""
        key = (log, record)
        listened_to = self.records[record].claim in live
        if key in self._without_effect and not listened_to:
            return log
        longer = self._longer.get(key)
        if longer is None:
            truth = self._extended(log, record)
            if truth is self.truth(log):
                self._without_effect.add(key)
                if not listened_to:
                    return log
            longer = self._longer[key] = len(self.logs)
            self.logs.append((*self.logs[log], record))
            self.truths.append((*self.truths[log], truth))
        return longer

    def alive(self, records: tuple[int, ...], log: int) -> tuple[int, ...]:
        """Those under way that may still count, whenever they land. The rest is left away, by the
        fold's own rules (so not when they are what is tested). The sender, if it still listens, is
        told by the record that made it so: that one stands before it in the log."""
        if not records or not self._setting.prune:
            return records
        truth = self.truth(log)
        key = (records, truth.claim, truth.next_index, truth.end is None)
        alive = self._alive.get(key)
        if alive is None:
            alive = tuple(n for n in records if not _is_dead(self.records[n], truth))
            self._alive[key] = alive
        return alive

    def all(self) -> list[tuple[TokenRecord, ...]]:
        """Every log that was written, without those that another one continues."""
        continued = {shorter for shorter, _ in self._longer}
        return [
            tuple(self.records[n] for n in log)
            for number, log in enumerate(self.logs)
            if number not in continued
        ]

    def say(self, number: int) -> str:
        record = self.records[number]
        worker, count = divmod(record.claim.id.int, IDS_PER_WORKER)
        claim = f"({record.claim.epoch}, {'?AB'[worker]}{count})"
        if isinstance(record, Claim):
            return f"claim {claim}"
        if isinstance(record, Chunk):
            return f"chunk {record.index} of {claim}"
        return f"end {record.index} ({record.reason}) of {claim}"

    # Checks --------------------------------------------------------------------------------------

    def _extended(self, log: int, record: int) -> Fold:
        written = (*self.logs[log], record)
        if len(written) > self._setting.log_records_max:
            raise Violated("the log grows without end")
        claims = sum(isinstance(self.records[n], Claim) for n in written)
        if claims > self._setting.claims_max:
            raise Violated("a claim more than is needed")
        before = self.truth(log)
        after = self._setting.fold(before, self.records[record])
        try:
            self._check(before, after)
        except Violated as violated:
            raise Violated(f"{violated} (when {self.say(record)} lands)") from None
        return after

    def _check(self, before: Fold, after: Fold) -> None:
        shown, shows = entries(before), entries(after)
        if shows[: len(shown)] != shown:
            raise Violated("what a reader was shown was taken back")
        if before.end is not None and len(shows) > len(shown):
            raise Violated("something follows the end")
        if [entry.index for entry in shows] != list(range(len(shows))):
            raise Violated("the indexes are not dense")
        text = "".join(entry.text for entry in shown)
        for entry in shows[len(shown) :]:
            if entry.text and self._engine.said_before[entry.text] != text:
                raise Violated("two texts are spliced: this was not said after what stands before")
            text += entry.text
        finished = after.end is not None and after.end.kind is EndKind.FINISH
        if finished and len(text) != self._setting.chunks + 1:
            raise Violated("the answer is not whole")


def fresh_id(worker: int, count: int) -> UUID:
    return UUID(int=(worker + 1) * IDS_PER_WORKER + count)


def _is_dead(record: TokenRecord, truth: Fold) -> bool:
    if truth.end is not None or truth.claim is None:
        return truth.end is not None
    if isinstance(record, Claim):
        return record.claim <= truth.claim
    return record.claim < truth.claim or (
        record.claim == truth.claim and record.index < truth.next_index
    )


def is_end(record: TokenRecord) -> bool:
    return isinstance(record, End)
