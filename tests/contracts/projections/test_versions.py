"""The registry of builds: one is live, and a switch never takes back what was to be read."""

import psycopg
import pytest

from projections import tables as sqls
from projections import versions
from projections.conversations import Histories
from projections.progress import BuildDropped
from projections.projection import beside
from projections.runner import Runner
from projections.tables import Db
from projections.versions import NotLive, Offsets, State, StillBehind, switch
from tests.contracts.projections.deliver import TOPIC, Partition
from tests.projections.histories_events import Told

FIRST, SECOND = Histories(), beside(Histories(), 2)


@pytest.fixture
def told() -> Told:
    made = Told()
    made.turn("?")
    return made


@pytest.fixture
def first(db: Db) -> Runner:
    made = Runner(FIRST, gap_seconds_max=5)
    made.create(db)
    return made


@pytest.fixture
def second(db: Db, first: Runner) -> Runner:
    versions.begin(db, SECOND.tables)
    made = Runner(SECOND, gap_seconds_max=5)
    made.create(db)
    return made


def states(db: Db) -> dict[str, State]:
    return {one.tables.label: one.state for one in versions.builds(db)}


def test_the_first_build_is_live_and_a_further_one_is_not(db: Db, second: Runner) -> None:
    assert states(db) == {"histories@1": State.LIVE, "histories@1.2": State.BUILDING}
    assert versions.next_build(db, FIRST.tables) == 3


def test_a_switch_is_refused_while_readers_would_go_back(
    db: Db, first: Runner, second: Runner, told: Told
) -> None:
    sent = Partition().send(told.recorded)
    first.apply(db, sent)
    second.apply(db, sent[:-1])
    with pytest.raises(StillBehind, match=r"histories@1\.2 is behind histories@1 in 1 streams"):
        switch(db, SECOND, lambda at: None)
    assert states(db) == {"histories@1": State.LIVE, "histories@1.2": State.BUILDING}


def test_a_switch_lets_the_other_catch_up_while_the_live_one_stands_still(
    db: Db, url: str, first: Runner, second: Runner, told: Told
) -> None:
    sent = Partition().send(told.recorded)
    first.apply(db, sent)
    seen: list[Offsets] = []

    def catch_up(at: Offsets) -> None:
        seen.append(at)
        second.apply(db, sent)

    live = switch(db, SECOND, catch_up)
    assert live.label == "histories@1"
    assert seen == [{(TOPIC, 0): len(sent)}]
    assert states(db) == {"histories@1": State.OLD, "histories@1.2": State.LIVE}


def test_only_another_build_can_become_live(db: Db, first: Runner) -> None:
    with pytest.raises(NotLive, match="is live already"):
        switch(db, FIRST, lambda at: None)
    with pytest.raises(NotLive, match="is not built"):
        switch(db, SECOND, lambda at: None)


def test_a_build_that_was_dropped_is_fed_no_more(
    db: Db, first: Runner, second: Runner, told: Told
) -> None:
    switch(db, SECOND, lambda at: None)
    db.execute("DELETE FROM projection_builds WHERE build = 1")
    with pytest.raises(BuildDropped):
        first.apply(db, Partition().send(told.recorded))
    with pytest.raises(BuildDropped):
        Runner(FIRST, gap_seconds_max=5).create(db)
    assert states(db) == {"histories@1.2": State.LIVE}


def test_a_build_that_has_become_live_is_not_dropped(db: Db, first: Runner, second: Runner) -> None:
    """Somebody may have switched back since it was looked at."""
    assert not sqls.drop(db, FIRST.tables, FIRST.own_suffixes)
    assert sqls.drop(db, SECOND.tables, SECOND.own_suffixes)
    assert not sqls.drop(db, SECOND.tables, SECOND.own_suffixes)
    assert states(db) == {"histories@1": State.LIVE}
    first.create(db)


def test_readers_of_a_version_that_is_old_follow_the_build_that_was_live(
    db: Db, first: Runner, second: Runner
) -> None:
    switch(db, SECOND, lambda at: None)
    switch(db, FIRST, lambda at: None)
    live, old = db.execute(
        "UPDATE projection_builds SET state = 'old', since = clock_timestamp()"
        " WHERE state = 'live' RETURNING build, state"
    ).fetchall()[0]
    assert (live, old) == (1, "old")
    found = db.execute(versions.READABLE, ("histories", 1)).fetchone()
    assert found == (1,)


def test_indexes_of_a_new_build_let_others_start(
    db: Db, url: str, first: Runner, second: Runner
) -> None:
    with psycopg.connect(url) as building, building.transaction():
        sqls.create_indexes(building, SECOND.tables, SECOND.own_indexes)
        db.execute("SET lock_timeout = '1s'")
        first.create(db)
