"""`thalweg dead-letters`, on read models with streams that are parked."""

import json
from pathlib import Path
from uuid import UUID

import pytest
from typer.testing import CliRunner

from events.codec import to_cloudevent
from infra.cli import dead_letters_work as cli
from infra.cli.main import app
from infra.parked import parked_check
from infra.read_models import ReadModels
from infra.settings import Settings
from projections.answers import Answers
from projections.conversations import Histories
from projections.runner import Runner
from projections.tables import Db
from tests.contracts.projections.deliver import TOPIC, Partition, a_conversation


@pytest.fixture
def settings(url: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, projections_database_url=url)


@pytest.fixture
def parked(db: Db) -> UUID:
    """A stream that can't be applied from position 3 on, in two projections; and a stray."""
    bad, log = a_conversation(answers=2), Partition()
    _, headers, _ = to_cloudevent(bad[2])
    sent = [*log.send(bad[:2]), log.send_raw(headers, b'{"said":"by ann"}'), *log.send(bad[3:])]
    sent.append(log.send_raw([], b"stray"))
    for projection in (Answers(), Histories()):
        runner = Runner(projection, gap_seconds_max=5)
        runner.create(db)
        runner.apply(db, sent)
    return bad[0].stream


def listed(settings: Settings, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert cli.list_all(settings, None, as_json=True) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_list_says_what_waits_where_and_why(
    settings: Settings, parked: UUID, capsys: pytest.CaptureFixture[str]
) -> None:
    found = listed(settings, capsys)
    assert [
        (one["projection"], one["stream"], one["position"], one["waiting"]) for one in found
    ] == [
        ("answers@1", str(parked), 2, 3),
        ("answers@1", f"{TOPIC}:0:5", 0, 1),
        ("histories@1", str(parked), 2, 3),
        ("histories@1", f"{TOPIC}:0:5", 0, 1),
    ]
    assert cli.list_all(settings, "usage", as_json=False) == 0
    assert capsys.readouterr().out == "Nothing is parked.\n"
    with pytest.raises(LookupError, match="there are answers, histories, keys, usage"):
        cli.list_all(settings, "history", as_json=False)


def test_show_prints_the_events_and_the_decisions(
    settings: Settings, parked: UUID, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.retry(settings, "answers", str(parked), by="bob") == 1
    capsys.readouterr()
    assert cli.show(settings, "answers", str(parked)) == 0
    out = capsys.readouterr().out
    assert "answers@1  position 3" in out
    assert '{"said":"by ann"}' in out
    assert "retried at position 2 by bob" in out


def test_discard_frees_the_stream_and_says_what_it_did(
    settings: Settings, parked: UUID, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.discard(settings, "histories", str(parked), None, by="bob") == 2
    assert cli.discard(settings, "histories", str(parked), 3, by="bob") == 0
    out = capsys.readouterr().out
    assert f"went on past position 3 of {parked}, without it" in out
    assert "2 events" in out
    assert "the stream is free again" in out
    assert cli.discard(settings, "histories", f"{TOPIC}:0:5", None, by="bob") == 0
    assert {one["projection"] for one in listed(settings, capsys)} == {"answers@1"}
    with pytest.raises(LookupError, match="is not parked in histories"):
        cli.discard(settings, "histories", str(parked), 6, by="bob")


def test_one_record_of_a_stream_is_discarded_by_its_place(
    settings: Settings, parked: UUID, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.discard(settings, "histories", f"{TOPIC}:0:2", None, by="bob") == 0
    out = capsys.readouterr().out
    assert f"histories@1: {TOPIC}:0:2 is discarded." in out
    assert "histories@1: 0 events of its stream applied" in out
    found = [one for one in listed(settings, capsys) if one["projection"] == "histories@1"]
    assert (found[0]["position"], found[0]["waiting"]) == (2, 2)
    assert found[0]["problem"] == "position 3 is missing"


@pytest.mark.parametrize("stream", ["nonsense", "a:b:c", "019ac000-0000-7000-8000-000000000001"])
def test_what_is_not_there_is_said(settings: Settings, parked: UUID, stream: str) -> None:
    with pytest.raises(LookupError):
        cli.discard(settings, "histories", stream, 1, by="bob")


def test_retry_without_a_stream_retries_all(settings: Settings, parked: UUID, db: Db) -> None:
    assert cli.retry(settings, "usage", None, by="bob") == 0, "nothing waits there"
    assert cli.retry(settings, "answers", None, by="bob") == 1
    made = db.execute("SELECT name, decision, decided_by FROM projection_decisions").fetchall()
    assert made == [("answers", "retried", "bob")]


async def test_readiness_says_how_many_streams_are_parked(url: str, db: Db, parked: UUID) -> None:
    models = ReadModels(url, connections_max=1)
    await models.open()
    try:
        check = parked_check(models)
        assert await check() == "2 streams parked"
        db.execute("DELETE FROM answers_v1_parked")
        assert await check() == "1 stream parked"
        db.execute("DELETE FROM histories_v1_parked")
        assert await check() == "ready"
    finally:
        await models.close()


@pytest.mark.parametrize("verb", ["list", "show", "retry", "discard"])
def test_each_verb_has_help(verb: str) -> None:
    shown = CliRunner().invoke(app, ["dead-letters", verb, "--help"])
    assert shown.exit_code == 0
    assert "Usage:" in shown.output
