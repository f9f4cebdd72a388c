"""Lending of places that their owner does not need, and calling them back.

Each worker says, when something has changed and now and then, what it lends to whom and which of
what it borrowed it uses (`Statement`). All it may rely on is what it has read:

- the owner gives places away at once when it decides to lend them, before it says so;
- the borrower uses them from when it reads that, until it reads that there are fewer; a call that
  is under way then goes on, and it says that the place is still in use;
- the owner has a place back when it reads that the borrower, having read the recall, does not use
  it; or when the borrower has said nothing for SILENT_SECONDS_MAX, and SAYING_SECONDS_MAX besides,
  before a statement of its own that the owner reads (so what it has not read yet is no silence);
- so a borrower begins nothing on a loan unless it has read a statement of its own that it made
  within that time: the owner reads it, if at all, later than it was made. Once such a statement
  was missing, all loans of before are void, since their owners may have taken the places back.

So an engine is over its bound by at most the borrowed places of workers that are alive and silent
(paused, or cut off from Kafka), as long as the calls last that they had begun; a dead one's are
closed by its kernel. Pure: it is told the time, in seconds of a clock that never goes back.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf

from events.statements import Debt, Loan, Statement

SILENT_SECONDS_MAX = 3.0
"""Twice the session timeout: by then the group has found out too."""
SAYING_SECONDS_MAX = 1.0
"""A statement that is not in the log by then never gets there: its producer gives it up."""
SAID_AGAIN_SECONDS = 1.0
"""A statement that matters is said again after this long: three fit into the silence."""
FORGOTTEN_SECONDS = 3_600.0
"""An engine that has gone for so long: no call is under way any more that was begun on a loan."""
UNREAD_MAX = 64
"""Own statements on their way; older ones count as never read back."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a worker has and wants of one engine, at a moment."""

    share: int
    in_flight: int
    wanted: int
    """Requests that wait for a place there."""


@dataclass(slots=True)
class _Lent:
    loan: Loan
    outstanding: int
    """Places that the borrower may be using."""


class Lending:
    """Of one worker."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._needs: dict[str, Need] = {}
        self._needed_at: dict[str, float] = {}
        """By engine, also those that have gone: when it was one of ours last."""
        self._lent: dict[str, dict[str, _Lent]] = {}
        self._heard: dict[str, tuple[float, Statement]] = {}
        self._used: dict[str, dict[str, int]] = {}
        """By engine and owner: borrowed places in which calls are under way."""
        self._void: dict[str, int] = {}
        """By owner: the newest loan that is not to be counted on, nor any before it."""
        self._numbers = 0
        self._said = Statement(worker)
        self._said_at = -inf
        self._on_their_way: deque[tuple[int, float]] = deque()
        """Own statements that were not read back yet, and when they were made."""
        self._is_heard_from = -inf
        """When the newest own statement was made that was read back."""

    def places(self, engine: str, now: float) -> int:
        """How many calls this worker may have at an engine; what is under way may be more."""
        need = self._needs.get(engine)
        if need is None:
            return 0
        return self._own(engine, need) + self._borrowed(engine, now)

    def heard(self, statement: Statement, now: float) -> None:
        """A statement was read, another's or its own, in the order of the log."""
        other = statement.worker
        if other == self._worker:
            while self._on_their_way and self._on_their_way[0][0] <= statement.number:
                number, said_at = self._on_their_way.popleft()
                if number == statement.number:  # those before it were lost on their way
                    self._read_back(said_at)
            return
        self._heard[other] = (now, statement)
        for engine, lent in self._lent.items():
            ours = lent.get(other)
            debt = statement.owed.get(engine, {}).get(self._worker)
            if ours is None or debt is None or debt.number != ours.loan.number:
                continue  # it has not read it yet
            if debt.void:
                ours.loan = self._loan(0)
            ours.outstanding = max(ours.loan.places, debt.used)
        self._tidy()

    def step(self, needs: Mapping[str, Need], now: float) -> Statement | None:
        """Decides what to lend and to call back. What it returns is to be said to all."""
        self._needs = dict(needs)
        self._forget_engines(now)
        for engine, need in needs.items():
            self._decide(engine, need)
        self._tidy()
        said = self._statement(now)
        due = said.matters and now - self._said_at >= SAID_AGAIN_SECONDS
        if replace(said, number=self._said.number) == self._said and not due:
            return None
        self._said, self._said_at = said, now
        self._on_their_way.append((said.number, now))
        while len(self._on_their_way) > UNREAD_MAX:
            self._on_their_way.popleft()
        return said

    @property
    def is_busy(self) -> bool:
        """Its last statement said something that matters to others."""
        return self._said.matters

    # ---------------------------------------------------------------------------------------------

    def _outstanding(self, engine: str) -> int:
        return sum(each.outstanding for each in self._lent.get(engine, {}).values())

    def _own(self, engine: str, need: Need) -> int:
        """Places of its own that nobody else may be using."""
        return max(0, need.share - self._outstanding(engine))

    def _decide(self, engine: str, need: Need) -> None:
        lent = self._lent.setdefault(engine, {})
        outstanding = self._outstanding(engine)
        own_use = min(need.in_flight, self._own(engine, need))
        short = need.wanted - (need.share - outstanding - own_use)
        if short > 0:  # its own work comes first
            for each in lent.values():
                back = min(short, each.loan.places)
                if back > 0:
                    each.loan = self._loan(each.loan.places - back)
                    short -= back
            return
        spare = need.share - outstanding - own_use - need.wanted
        asking = {
            other: statement.wanted.get(engine, 0)
            for other, (_, statement) in sorted(self._heard.items())
            if statement.wanted.get(engine, 0) > 0 and other not in lent
        }
        for left, (other, wanted) in zip(range(len(asking), 0, -1), asking.items(), strict=True):
            places = min(wanted, -(-spare // left))
            if places > 0:
                spare -= places
                lent[other] = _Lent(self._loan(places), places)
        for other, each in lent.items():
            statement = self._heard[other][1] if other in self._heard else Statement(other)
            debt = statement.owed.get(engine, {}).get(self._worker)
            has_read = debt is not None and debt.number == each.loan.number
            wants_more = statement.wanted.get(engine, 0) > 0
            if has_read and debt is not None and not wants_more and debt.used < each.loan.places:
                each.loan = self._loan(debt.used)  # it does not need them all any more

    def _loan(self, places: int) -> Loan:
        self._numbers += 1
        return Loan(self._numbers, places)

    def _read_back(self, said_at: float) -> None:
        """An own statement of that time came out of the log."""
        if said_at - self._is_heard_from > SILENT_SECONDS_MAX:
            for owner, (_, statement) in self._heard.items():
                self._void[owner] = max(
                    (
                        each[self._worker].number
                        for each in statement.lent.values()
                        if self._worker in each
                    ),
                    default=self._void.get(owner, 0),
                )
        self._is_heard_from = said_at
        self._forget_the_silent(said_at - SILENT_SECONDS_MAX - SAYING_SECONDS_MAX)

    def _loans_to_us(self, engine: str) -> dict[str, Loan]:
        """Void ones with no places."""
        found = {}
        for owner, (_, statement) in sorted(self._heard.items()):
            loan = statement.lent.get(engine, {}).get(self._worker)
            if loan is not None:
                found[owner] = replace(loan, places=0) if self._is_void(owner, loan) else loan
        return found

    def _is_void(self, owner: str, loan: Loan) -> bool:
        return loan.number <= self._void.get(owner, 0)

    def _borrowed(self, engine: str, now: float) -> int:
        if now - self._is_heard_from > SILENT_SECONDS_MAX:
            return 0
        return sum(
            loan.places
            for owner, loan in self._loans_to_us(engine).items()
            if now - self._heard[owner][0] <= SILENT_SECONDS_MAX
        )

    def _statement(self, now: float) -> Statement:
        wanted, lent, owed = {}, {}, {}
        for engine, need in self._needs.items():
            free = self.places(engine, now) - need.in_flight
            if need.wanted > max(0, free):
                wanted[engine] = need.wanted - max(0, free)
            if loans := {other: each.loan for other, each in self._lent.get(engine, {}).items()}:
                lent[engine] = loans
            if debts := self._debts(engine, need):
                owed[engine] = debts
        return Statement(self._worker, wanted, lent, owed, self._said.number + 1)

    def _debts(self, engine: str, need: Need) -> dict[str, Debt]:
        """What is in use beyond the own places is borrowed. Places that were called back are the
        first to be given back when a call ends, whichever it was."""
        over = max(0, need.in_flight - self._own(engine, need))
        loans, used = self._loans_to_us(engine), self._used.setdefault(engine, {})
        places = {owner: loan.places for owner, loan in loans.items()}
        owners = sorted(
            {*used, *loans}, key=lambda each: (places.get(each, 0) - used.get(each, 0), each)
        )
        back = sum(used.values()) - over
        for owner in owners:
            if back > 0:
                less = min(back, used.get(owner, 0))
                used[owner] = used.get(owner, 0) - less
                back -= less
            elif back < 0:
                more = max(0, min(-back, places.get(owner, 0) - used.get(owner, 0)))
                used[owner] = used.get(owner, 0) + more
                back += more
        self._used[engine] = {owner: number for owner, number in used.items() if number}
        return {
            owner: Debt(loan.number, used.get(owner, 0), self._is_void(owner, loan))
            for owner, loan in loans.items()
        }

    def _forget_engines(self, now: float) -> None:
        self._needed_at.update(dict.fromkeys(self._needs, now))
        for engine, at in list(self._needed_at.items()):
            if now - at > FORGOTTEN_SECONDS:
                for of_engine in (self._needed_at, self._lent, self._used):
                    of_engine.pop(engine, None)

    def _forget_the_silent(self, before: float) -> None:
        for other, (at, _) in list(self._heard.items()):
            if at < before:
                del self._heard[other]
                for lent in self._lent.values():
                    lent.pop(other, None)

    def _tidy(self) -> None:
        """Drops loans that are over: nothing is lent, nothing is in use."""
        for lent in self._lent.values():
            for other, each in list(lent.items()):
                if each.loan.places == 0 and each.outstanding == 0:
                    del lent[other]
