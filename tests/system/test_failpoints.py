"""Every failpoint is hit by an ordinary day with a few things that go wrong.

A failpoint that nothing hits would let a test that kills there pass for nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import psycopg

from infra.failpoints import CATALOGUE, folder_of
from tests.fixtures.numbered_process import NumberedEngine
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg
from tests.system.conftest import client
from tests.system.test_unstored import EXPIRE, post, settings_of, start, stream

POISON = "what a table refuses"
REFUSE = (
    "ALTER TABLE histories_v1 ADD CONSTRAINT refusing"
    f" CHECK (title IS DISTINCT FROM '{POISON}') NOT VALID"
)
REFUSE_NO_MORE = "ALTER TABLE histories_v1 DROP CONSTRAINT refusing"
FIRE = "UPDATE sagas.timers SET due = now()"
PARKED = "SELECT count(*) FROM histories_v1_parked"
IN_THE_END = {"relay.before_release"}


def test_every_failpoint_is_hit_by_an_ordinary_day(tmp_path: Path, engine: NumberedEngine) -> None:
    told = {"THALWEG_FAILPOINTS": "*=tell"}
    with RunningThalweg(tmp_path, engines=f"tgi+http://{engine.address}", **told) as thalweg:
        with client(thalweg) as http:
            _speak(http)
            _change_nothing(http)
            _deliver_without_a_key(http)
            _let_keys_run_out(http, thalweg)
            _be_late(http, thalweg)
            _have_an_event_refused(http, thalweg)
        rebuilt = thalweg.cli("rebuild", "histories", "--switch")
        assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
        with suppress(AssertionError):  # the last line says which are missing
            wait_for(lambda: _hit(tmp_path) >= CATALOGUE.keys() - IN_THE_END, "every other hit")
        thalweg.interrupt()
        assert _hit(tmp_path) == CATALOGUE.keys()


def _speak(http: httpx2.Client) -> None:
    conversation = start(http, "of failpoints", stored=True)
    assert "event: end" in stream(http, post(http, conversation, "of failpoints"))


def _change_nothing(http: httpx2.Client) -> None:
    conversation = start(http, "archived", stored=True)
    for number in range(2):
        archived = http.patch(
            f"/api/conversations/{conversation}",
            json={"archived": True},
            headers={"Idempotency-Key": f"archived-{number}"},
        )
        assert archived.status_code == 200, archived.text


def _deliver_without_a_key(http: httpx2.Client) -> None:
    body = {"model": "numbered", "messages": [{"role": "user", "content": "tokens=3"}]}
    assert http.post("/v1/chat/completions", json=body).status_code == 200


def _let_keys_run_out(http: httpx2.Client, thalweg: RunningThalweg) -> None:
    conversation = start(http, "between us", stored=False)
    stream(http, post(http, conversation, "between us"))
    recorded = f"/api/streams/{conversation}"  # its end is shown before, and renews the key
    wait_for(lambda: "answer_ended" in http.get(recorded).text, "the end to be recorded")
    with psycopg.connect(settings_of(thalweg).database_url("conversations")) as connection:
        connection.execute(EXPIRE)
    wait_for(lambda: "recorder.after_destroy" in _hit(thalweg.home), "the key to be destroyed")


def _be_late(http: httpx2.Client, thalweg: RunningThalweg) -> None:
    """The timer of an answer that is being given fires early: the store takes it for too early."""
    post(http, start(http, "late", stored=True), "tokens=800 delay_ms=50")
    with psycopg.connect(settings_of(thalweg).database_url("sagas"), autocommit=True) as sagas:
        wait_for(lambda: sagas.execute(FIRE).rowcount, "the saga to wait for an answer")
    wait_for(lambda: "sagas.after_outcome" in _hit(thalweg.home), "the saga to have asked")


def _have_an_event_refused(http: httpx2.Client, thalweg: RunningThalweg) -> None:
    conversation = start(http, "fine", stored=True)
    with _tables(thalweg) as tables:
        tables.execute(REFUSE)
        renamed = http.patch(f"/api/conversations/{conversation}", json={"title": POISON})
        assert renamed.status_code == 200, renamed.text
        wait_for(lambda: tables.execute(PARKED).fetchone() == (1,), "the stream to be parked")
        tables.execute(REFUSE_NO_MORE)
    retried = thalweg.cli("dead-letters", "retry", "histories")
    assert retried.returncode == 0, retried.stdout + retried.stderr


@contextmanager
def _tables(thalweg: RunningThalweg) -> Iterator[psycopg.Connection]:
    url = settings_of(thalweg).database_url("projections")
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def _hit(home: Path) -> set[str]:
    """The names of the failpoints that any process has hit."""
    hits = folder_of(home) / "hits"
    return {line.split()[-3] for line in hits.read_text().splitlines()} if hits.exists() else set()
