"""Verbs of the command line, killed between two side effects: who runs them again gets it right."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from signal import SIGKILL
from uuid import uuid4

import psycopg
from psycopg import sql

from infra.failpoints import CATALOGUE
from tests.faults.case import Load
from tests.faults.engines import TGI
from tests.faults.failpoints import AFTER_A_REFUSAL, Strike, arm, has_struck, strikes_told
from tests.faults.history import History
from tests.faults.load import Clients
from tests.faults.read_side import judge_read_side, settings_of
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg

ANSWER_SECONDS_MAX = 180
REBUILD = [name for name in CATALOGUE if name.startswith("rebuild.")]
PREPARE = [name for name in CATALOGUE if name.startswith("prepare.")]
STATES = "SELECT state FROM projection_builds WHERE name = 'usage'"
LIVE = "SELECT version, build FROM projection_builds WHERE name = 'histories' AND state = 'live'"
REFUSE = (
    "ALTER TABLE {build} ADD CONSTRAINT refusing CHECK (title IS DISTINCT FROM {title}) NOT VALID"
)
REFUSE_NO_MORE = "ALTER TABLE {build} DROP CONSTRAINT refusing"


async def test_rebuilds_that_are_killed_leave_nothing_that_the_next_one_minds(
    thalweg: RunningThalweg,
) -> None:
    clients = Clients(thalweg, History(), Load(1, 0, (TGI,), tokens=(5, 5), delay_ms=0), Random(0))
    await clients.begun()
    await clients.finish(ANSWER_SECONDS_MAX)
    for name in REBUILD:
        killed = thalweg.cli("rebuild", "usage", "--switch", THALWEG_FAILPOINTS=f"{name}=kill")
        assert killed.returncode == -SIGKILL, name + killed.stdout + killed.stderr
        with _tables(thalweg) as tables:
            states = [state for (state,) in tables.execute(STATES).fetchall()]
        assert states.count("live") == 1, name
    again = thalweg.cli("rebuild", "usage", "--switch")
    assert again.returncode == 0, again.stdout + again.stderr
    with _tables(thalweg) as tables:
        assert ("building",) not in tables.execute(STATES).fetchall()
    assert await judge_read_side(thalweg) == []


def test_first_starts_that_are_killed_are_made_good_by_the_next(thalweg: RunningThalweg) -> None:
    file = thalweg.home / "api-key"
    before = file.read_text()
    file.unlink()
    try:
        for name in PREPARE:
            killed = thalweg.cli("prepare", THALWEG_FAILPOINTS=f"{name}=kill")
            assert killed.returncode == -SIGKILL, name + killed.stdout + killed.stderr
            assert not file.exists()
        again = thalweg.cli("prepare")
        assert again.returncode == 0, again.stdout + again.stderr
        wait_for(lambda: _is_known(thalweg), "the new key to be known")
    finally:
        file.write_text(before)


async def test_a_feed_that_is_killed_before_it_parks_a_stream_parks_it_once(
    thalweg: RunningThalweg,
) -> None:
    title, strike = f"refused {uuid4()}", Strike("projections", AFTER_A_REFUSAL)
    with _refused(thalweg, title) as (tables, build):
        since = len(strikes_told(thalweg))
        arm(thalweg, strike)
        _start(thalweg, title)
        wait_for(lambda: has_struck(thalweg, strike, since), f"{strike} to strike")
        count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(f"{build}_parked"))
        wait_for(lambda: tables.execute(count).fetchone() == (1,), "the stream to be parked")
    retried = thalweg.cli("dead-letters", "retry", "histories")
    assert retried.returncode == 0, retried.stdout + retried.stderr
    assert await judge_read_side(thalweg) == []


@contextmanager
def _refused(thalweg: RunningThalweg, title: str) -> Iterator[tuple[psycopg.Connection, str]]:
    """The live build of the histories takes no conversation of that title."""
    with _tables(thalweg) as tables:
        row = tables.execute(LIVE).fetchone()
        assert row is not None
        version, number = row
        build = f"histories_v{version}" + (f"_b{number}" if number > 1 else "")
        names = {"build": sql.Identifier(build), "title": sql.Literal(title)}
        tables.execute(sql.SQL(REFUSE).format(**names))
        try:
            yield tables, build
        finally:
            tables.execute(sql.SQL(REFUSE_NO_MORE).format(**names))


@contextmanager
def _tables(thalweg: RunningThalweg) -> Iterator[psycopg.Connection]:
    url = settings_of(thalweg).database_url("projections")
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def _start(thalweg: RunningThalweg, title: str) -> None:
    request = urllib.request.Request(
        f"{thalweg.url}/api/conversations",
        json.dumps({"title": title}).encode(),
        {"Authorization": f"Bearer {thalweg.api_key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS_MAX) as response:
        assert response.status == 201


def _is_known(thalweg: RunningThalweg) -> bool:
    request = urllib.request.Request(
        f"{thalweg.url}/v1/models", headers={"Authorization": f"Bearer {thalweg.api_key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS_MAX) as response:
            return bool(response.status == 200)
    except OSError:
        return False
