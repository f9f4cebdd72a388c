"""Shares and loans: a small world of workers, a log that is late, pauses, deaths and rebalances."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.statements import Statement
from processors.answers.scheduling.lending import (
    FORGOTTEN_SECONDS,
    SAYING_SECONDS_MAX,
    SILENT_SECONDS_MAX,
    Lending,
    Need,
)
from processors.answers.scheduling.shares import share

PARTITIONS = 16
ENGINE = "engine"


@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 2**32), st.text(max_size=5))
def test_shares_sum_to_the_bound_whoever_owns_what(places, partitions, seed, engine):
    owners = [random.Random(seed + number).randrange(3) for number in range(partitions)]
    shares = [
        share(engine, places, [p for p, owner in enumerate(owners) if owner == who], partitions)
        for who in range(3)
    ]
    assert sum(shares) == places


def test_shares_follow_the_partitions():
    assert share(ENGINE, 36, range(8), 16) == 18
    assert share(ENGINE, 36, range(4), 16) == 9
    assert share(ENGINE, 36, (), 16) == 0


@dataclass
class Worker:
    name: str
    owned: list[int]
    lending: Lending
    in_flight: int = 0
    wanted: int = 0
    read: int = 0
    """Statements of the log that it has read."""
    paused: bool = False
    may_write: bool = True
    may_read: bool = True
    saying: list[tuple[float, Statement]] = field(default_factory=list)
    """On their way to the log, since when."""
    is_slow: bool = False
    """Its statements are on their way for up to a second."""

    def need(self, places: int) -> Need:
        return Need(share(ENGINE, places, self.owned, PARTITIONS), self.in_flight, self.wanted)


@dataclass
class World:
    places: int
    workers: list[Worker]
    log: list[Statement] = field(default_factory=list)
    now: float = 0.0

    @classmethod
    def of(cls, count: int, places: int) -> "World":
        return cls(
            places,
            [
                Worker(f"w{number}", list(range(number, PARTITIONS, count)), Lending(f"w{number}"))
                for number in range(count)
            ],
        )

    def step(self, worker: Worker, *, reads: int = 100) -> None:
        """What a worker does when it gets a turn."""
        self.land(worker)
        if worker.paused:
            return
        reads = reads if worker.may_read else 0
        for statement in self.log[worker.read : worker.read + reads]:
            worker.lending.heard(statement, self.now)
        worker.read = min(len(self.log), worker.read + reads)
        for _ in range(2):  # it says what it begins now, too
            said = worker.lending.step({ENGINE: worker.need(self.places)}, self.now)
            if said is not None and worker.may_write:
                worker.saying.append((self.now, said))
            if not worker.is_slow:
                self.land(worker)
            while worker.wanted and worker.in_flight < worker.lending.places(ENGINE, self.now):
                worker.wanted -= 1
                worker.in_flight += 1

    def land(self, worker: Worker) -> None:
        for at, statement in worker.saying:
            if self.now - at <= SAYING_SECONDS_MAX:
                self.log.append(statement)
        worker.saying.clear()

    def rounds(self, count: int, seconds: float = 0.05) -> None:
        for _ in range(count):
            self.now += seconds
            for worker in self.workers:
                self.step(worker)

    @property
    def in_flight(self) -> int:
        return sum(worker.in_flight for worker in self.workers)

    def share(self, worker: Worker) -> int:
        return share(ENGINE, self.places, worker.owned, PARTITIONS)


def test_an_idle_worker_lends_its_places_and_gets_them_back():
    world = World.of(2, places=10)
    one, two = world.workers
    one.wanted = 30
    world.rounds(5)
    assert (one.in_flight, two.in_flight) == (10, 0)
    two.wanted = 3
    world.rounds(5)
    assert two.in_flight == 0, "they are in use"
    one.in_flight -= 6
    one.wanted = 0
    world.rounds(5)
    assert two.in_flight == 3
    assert world.in_flight <= 10


def test_places_that_come_back_go_to_their_owner_first():
    world = World.of(2, places=10)
    one, two = world.workers
    one.wanted = 100
    world.rounds(5)
    two.wanted = 100
    for _ in range(20):
        one.in_flight -= one.in_flight > world.share(one)
        world.rounds(3)
    assert (one.in_flight, two.in_flight) == (world.share(one), world.share(two))


def test_several_who_want_share_what_is_free():
    world = World.of(4, places=16)
    for worker in world.workers[:2]:
        worker.wanted = 50
    world.rounds(8)
    assert [worker.in_flight for worker in world.workers] == [8, 8, 0, 0]


def test_a_small_engine_serves_workers_that_have_no_place_of_it():
    world = World.of(3, places=1)
    for worker in world.workers:
        worker.wanted = 1
    for _ in range(40):
        world.rounds(4)
        for worker in world.workers:
            worker.in_flight = 0
    assert not any(worker.wanted for worker in world.workers)


def test_what_a_dead_worker_had_borrowed_is_its_owners_again():
    world = World.of(2, places=10)
    one, two = world.workers
    one.wanted = 30
    world.rounds(5)
    world.workers.remove(one)
    two.wanted = 30
    world.rounds(1)
    assert two.in_flight == 0
    world.rounds(110)
    assert two.in_flight == world.share(two)


def test_who_cannot_be_heard_begins_nothing_on_a_loan():
    world = World.of(2, places=10)
    one, _two = world.workers
    one.wanted = world.share(one) + 1
    world.rounds(5)
    assert one.in_flight == world.share(one) + 1
    one.may_write = False
    one.in_flight, one.wanted = 0, 30
    world.rounds(int(SILENT_SECONDS_MAX / 0.05) + 2)
    one.in_flight, one.wanted = 0, 30
    world.rounds(1)
    assert one.in_flight == world.share(one)


def lent(*, at: float) -> tuple[Lending, Lending]:
    """An owner that has lent its 4 places, and the borrower that has read so at that time."""
    owner, borrower = Lending("owner"), Lending("borrower")
    said = borrower.step({ENGINE: Need(share=0, in_flight=0, wanted=4)}, at)
    for each in (owner, borrower):
        each.heard(told(said), at)
    loan = owner.step({ENGINE: Need(share=4, in_flight=0, wanted=0)}, at)
    for each in (owner, borrower):
        each.heard(told(loan), at)
    assert (owner.places(ENGINE, at), borrower.places(ENGINE, at)) == (0, 4)
    return owner, borrower


def told(statement: Statement | None) -> Statement:
    assert statement is not None
    return statement


def test_a_loan_is_void_once_its_owner_may_have_taken_it_back():
    owner, borrower = lent(at=0)
    late = told(owner.step({ENGINE: Need(4, 0, 0)}, 4.5))
    owner.heard(late, 4.5)
    assert owner.places(ENGINE, 4.5) == 4, "nothing was heard of the borrower"
    again = told(borrower.step({ENGINE: Need(0, 0, 4)}, 4.5))
    for statement in (late, again):  # which still speaks of the loan
        borrower.heard(statement, 4.6)
    assert borrower.places(ENGINE, 4.6) == 0


def test_a_void_loan_is_made_again_for_who_wants_it_all_the_time():
    world = World.of(2, places=10)
    one, _two = world.workers
    one.wanted = 100
    world.rounds(5)
    one.may_write = False
    world.rounds(int(SILENT_SECONDS_MAX / 0.05) + 2)  # not long enough for the owner
    one.may_write = True
    world.rounds(2)
    one.in_flight = 0
    world.rounds(5)
    assert one.in_flight == 10


def test_a_place_is_not_taken_back_while_a_word_of_the_borrower_may_be_on_its_way():
    owner, borrower = lent(at=0)
    on_its_way = told(borrower.step({ENGINE: Need(0, 0, 4)}, 2.9))
    said = told(owner.step({ENGINE: Need(4, 0, 0)}, 3.5))
    owner.heard(said, 3.5)
    for statement in (said, on_its_way):
        borrower.heard(statement, 3.6)
    assert borrower.places(ENGINE, 3.6) == 4
    assert owner.places(ENGINE, 3.6) == 0


def test_what_was_lent_of_an_engine_that_has_gone_for_long_is_forgotten():
    owner, borrower = lent(at=0)
    owner.heard(told(borrower.step({ENGINE: Need(0, 0, 0)}, 1.0)), 1.0)
    for at in (1.0, FORGOTTEN_SECONDS):
        owner.step({}, at)
    owner.step({ENGINE: Need(4, 0, 0)}, FORGOTTEN_SECONDS)
    assert owner.places(ENGINE, FORGOTTEN_SECONDS) == 0, "the borrower may use them"
    for at in (FORGOTTEN_SECONDS + 1, 3 * FORGOTTEN_SECONDS):
        owner.step({}, at)
    owner.step({ENGINE: Need(4, 0, 0)}, 3 * FORGOTTEN_SECONDS)
    assert owner.places(ENGINE, 3 * FORGOTTEN_SECONDS) == 4


ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["want", "end", "read", "read one", "pass", "give up waiting"]),
        st.integers(1, 6),
    ),
    max_size=60,
)


@given(st.integers(1, 12), ACTIONS)
def test_nobody_silent_nobody_dead_and_the_bound_holds_however_late_they_read(places, actions):
    world = World.of(3, places)
    for who, what, number in actions:
        worker = world.workers[who]
        if what == "want":
            worker.wanted += number
        elif what == "end":
            worker.in_flight -= min(worker.in_flight, number)
        elif what == "give up waiting":
            worker.wanted -= min(worker.wanted, number)
        elif what == "pass":
            world.now += 0.1
        world.step(worker, reads=1 if what == "read one" else 100 if what == "read" else 0)
        if what == "pass":  # nobody is silent for long
            for each in world.workers:
                world.step(each)
        assert world.in_flight <= places


@pytest.mark.parametrize("seed", range(20))
def test_with_pauses_and_cuts_it_is_over_by_what_silent_workers_had_borrowed(seed):
    chance = random.Random(seed)
    world = World.of(3, places=12)
    overhang = dict.fromkeys((worker.name for worker in world.workers), 0)
    said_at = dict.fromkeys(overhang, 0.0)
    for _ in range(1_500):
        world.now += chance.choice((0.01, 0.05, 0.3))
        worker = chance.choice(world.workers)
        match chance.randrange(14):
            case 0:
                worker.paused = not worker.paused
            case 1:
                worker.may_write = not worker.may_write
            case 12:
                worker.may_read = not worker.may_read
            case 13:
                worker.is_slow = not worker.is_slow
            case 2 | 3 | 4:
                worker.wanted += chance.randrange(8)
            case 5 | 6 | 7:
                if not worker.paused:
                    worker.in_flight -= chance.randint(0, worker.in_flight)
            case 8:
                worker.wanted = 0
        before = len(world.log)
        world.step(worker)
        for statement in world.log[before:]:
            said_at[statement.worker] = world.now
        for each in world.workers:
            borrowed = max(0, each.in_flight - world.share(each))
            silent = world.now - said_at[each.name] > SILENT_SECONDS_MAX
            overhang[each.name] = borrowed if silent else min(borrowed, overhang[each.name])
        assert world.in_flight <= 12 + sum(overhang.values())
    for each in world.workers:
        each.paused, each.is_slow, each.in_flight, each.wanted = False, False, 0, 0
        each.may_write = each.may_read = True
    world.rounds(100)
    world.workers[0].wanted = 100
    world.rounds(20)
    assert world.workers[0].in_flight == 12, "all is as before"
