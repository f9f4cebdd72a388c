"""The read models of a whole installation, from the command line."""

import re

import pytest

from tests.fixtures.thalweg import RunningThalweg
from tests.system.conftest import client

FIGURES = re.compile(r"([\d,]+) events .*?([\d,]+) events/s")


@pytest.mark.parametrize("name", ["histories", "usage", "answers", "keys"])
def test_what_is_rebuilt_equals_what_is_live(numbered: RunningThalweg, name: str) -> None:
    numbered.cli("chat", "tokens=5 delay_ms=0")
    done = numbered.cli("rebuild", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "They are equal." in done.stdout
    figures = FIGURES.search(done.stdout)
    assert figures is not None
    assert int(figures[1].replace(",", "")) > 0


def test_after_a_switch_readers_go_on_and_going_back_works(numbered: RunningThalweg) -> None:
    done = numbered.cli("rebuild", "keys", "--switch")
    assert done.returncode == 0, done.stdout + done.stderr
    listed = numbered.cli("projections", "list").stdout
    assert re.search(r"keys@1 +old", listed), listed
    assert re.search(r"keys@1\.2 +live", listed), listed
    made = numbered.cli("keys", "create", "--name", "after the switch")
    with client(numbered, made.stdout.strip()) as http:
        assert http.get("/v1/models").status_code == 200
    for verb in (("switch", "keys@1"), ("drop", "keys@1.2")):
        done = numbered.cli("projections", *verb)
        assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"keys@1 +live", numbered.cli("projections", "list").stdout)


def test_an_unknown_read_model_is_refused_in_one_sentence(numbered: RunningThalweg) -> None:
    done = numbered.cli("rebuild", "history")
    assert done.returncode == 1
    assert done.stderr.startswith("There is no projection 'history'; there are ")
    assert done.stderr.count("\n") == 1


def test_nothing_is_parked(numbered: RunningThalweg) -> None:
    listed = numbered.cli("dead-letters", "list")
    assert (listed.returncode, listed.stdout) == (0, "Nothing is parked.\n")
    with client(numbered) as http:
        assert http.get("/readyz").json()["dependencies"]["projections"] == "ready"
