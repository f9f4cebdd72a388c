"""`usage@1` on a real Postgres: every token counted once, whatever the relay repeats."""

from datetime import UTC, date, datetime

import pytest

from events.conversations import EndKind
from projections.exact_text import exact
from projections.runner import Runner
from projections.tables import Db
from projections.usage import Usage
from tests.contracts.projections.deliver import Partition
from tests.projections.histories_events import OTHER_TENANT, TENANT, Told

LATE = datetime(2026, 11, 1, 23, 59, 57, tzinfo=UTC)

Counted = dict[tuple[object, str, str, date], tuple[int, ...]]


@pytest.fixture
def runner(db: Db) -> Runner:
    made = Runner(Usage(), gap_seconds_max=5)
    made.create(db)
    return made


def counted(db: Db) -> Counted:
    rows = db.execute(
        "SELECT tenant, subject, model, day, prompt_tokens, completion_tokens, finished, failed,"
        " cancelled FROM usage_v1"
    ).fetchall()
    return {(row[0], exact(row[1]), exact(row[2]), row[3]): tuple(row[4:]) for row in rows}


def test_tokens_are_summed_by_tenant_subject_model_and_day_of_the_end(
    runner: Runner, db: Db
) -> None:
    ann, bob, other = Told(), Told(subject="b\0b"), Told(tenant=OTHER_TENANT)
    late = Told(begins=LATE)
    for told in (ann, bob, other, late):
        told.post("?")
    for told, model, kind in (
        (ann, "m", EndKind.FINISH),
        (ann, "m", EndKind.CANCELLED),
        (ann, "n" * 10_000, EndKind.FAIL),
        (bob, "m", EndKind.FINISH),
        (other, "m", EndKind.FINISH),
        (late, "m", EndKind.FINISH),
    ):
        told.end(told.ask(model=model), kind=kind, tokens=(10, 1))
    log = Partition()
    for told in (ann, bob, other, late):
        runner.apply(db, log.send(told.recorded))
    first, second = date(2026, 11, 1), date(2026, 11, 2)
    assert counted(db) == {
        (TENANT, "ann", "m", first): (20, 2, 1, 0, 1),
        (TENANT, "ann", "n" * 10_000, first): (10, 1, 0, 1, 0),
        (TENANT, "b\0b", "m", first): (10, 1, 1, 0, 0),
        (OTHER_TENANT, "ann", "m", first): (10, 1, 1, 0, 0),
        (TENANT, "ann", "m", second): (10, 1, 1, 0, 0),
    }
    assert db.execute("SELECT * FROM usage_v1_asked").fetchall() == []


def test_repeats_are_not_counted(runner: Runner, db: Db) -> None:
    told, log = Told(), Partition()
    told.turn("?")
    told.turn("?")
    for _ in range(3):
        for since in range(len(told.recorded)):
            runner.apply(db, log.send(told.recorded[since : since + 3]))
    ((_, found),) = counted(db).items()
    assert found == (6, 4, 2, 0, 0)


def test_what_is_not_stored_or_is_deleted_still_costs(runner: Runner, db: Db) -> None:
    told, log = Told(stored=False), Partition()
    told.turn("?")
    runner.apply(db, log.send(told.recorded))
    assert list(counted(db).values()) == [(3, 2, 1, 0, 0)]


def test_an_end_in_a_later_batch_finds_its_request(runner: Runner, db: Db) -> None:
    told, log = Told(), Partition()
    told.turn("?")
    for one in log.send(told.recorded):
        runner.apply(db, [one])
    assert list(counted(db).values()) == [(3, 2, 1, 0, 0)]
