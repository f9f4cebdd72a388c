"""What was stored by any version replays to the same state for ever.

WHEN A TEST HERE FAILS, NEVER CHANGE OR REMOVE A FILE IN golden/: such streams lie in the databases
of people who run this. Put the code right: an event's fields changed, so raise its VERSION and
write the upcaster; or `evolve` gives an old event another meaning, so give the new meaning a new
event. If only the classes of the state changed, let `golden_files.replayed` follow them. For a new
event type or version add a new file (`python -m tests.commands.golden_files`).
"""

import json

import pytest

from events.catalog import BY_TYPE, EVENT_CLASSES
from events.codec import encode_data
from tests.commands.golden_files import (
    History,
    differences,
    histories,
    promised_sums,
    replayed,
    sums,
)

HISTORIES = histories()
NEVER = "never change a golden history; see the top of tests/commands/test_golden.py"


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.name)
def test_a_stored_stream_replays_to_the_recorded_state(history: History) -> None:
    wrong = differences(history.state, replayed(history.recorded()))
    assert not wrong, f"{history.about} {NEVER}: {wrong}"


@pytest.mark.parametrize(
    "history",
    [history for history in HISTORIES if history.key is not None],
    ids=lambda history: history.name,
)
def test_a_sealed_stream_replays_without_its_key_to_what_is_not_personal(history: History) -> None:
    stored = history.stored()
    assert any(one.sealed for one in stored)
    wrong = differences(history.sealed_state, replayed(stored))
    assert not wrong, f"{history.about} {NEVER}: {wrong}"
    assert history.sealed_state != history.state


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.name)
def test_what_was_stored_survives_a_round_through_the_current_version(history: History) -> None:
    for recorded in history.recorded():
        event = recorded.event
        again = type(event).model_validate_json(encode_data(event))
        assert again == event
        assert BY_TYPE[event.TYPE] is type(event)


def test_the_files_are_those_that_were_recorded() -> None:
    assert sums() == promised_sums(), NEVER


def test_every_version_of_every_event_type_is_in_a_file() -> None:
    held = {
        (row["topic"], json.loads(row["state"])["version"])
        for history in HISTORIES
        for row in history.rows
    }
    wanted = {(cls.TYPE, one) for cls in EVENT_CLASSES for one in range(1, cls.VERSION + 1)}
    missing = sorted(wanted - held)
    assert not missing, f"add a new golden history that has {missing}"


def test_a_difference_is_found_wherever_it_is() -> None:
    promised = {"head": None, "answers": [{"id": "a", "end": {"text": "Hi"}}]}
    assert not differences(promised, {**promised, "new": 1})
    for found in (
        {"head": None, "answers": [{"id": "a", "end": {"text": "Ho"}}]},
        {"head": None, "answers": [{"id": "a", "end": None}]},
        {"head": None, "answers": []},
        {"answers": promised["answers"]},
    ):
        assert len(differences(promised, found)) == 1
