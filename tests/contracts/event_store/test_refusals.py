"""What the store refuses, so that nothing unsafe is ever stored or read."""

import pytest
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresDatastore

from events.codec import Undecodable
from events.ids import fresh_id
from infra.event_store.datastore import Datastore, UnsafeSetting, refuse_unsafe_settings
from infra.event_store.mapper import DomainRecord, EventMapper
from infra.event_store.recorder import EventRecorder
from tests.contracts.event_store.appends import append

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.mark.parametrize("value", ["yes", "true", "1", "on", "nonsense"])
def test_it_does_not_start_with_database_functions(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """With them eventsourcing appends without the table lock, and readers skip events."""
    monkeypatch.setenv("POSTGRES_ENABLE_DB_FUNCTIONS", value)
    with pytest.raises(UnsafeSetting, match="remove it from the environment"):
        Datastore(NOWHERE, schema="accounts", connections_max=1, application_name="test")


@pytest.mark.parametrize("value", ["", "no", "false", "0"])
def test_it_starts_where_they_are_off(value: str) -> None:
    refuse_unsafe_settings({"POSTGRES_ENABLE_DB_FUNCTIONS": value})


def test_a_datastore_that_was_told_to_use_them_is_refused_too() -> None:
    datastore = PostgresDatastore("nothing", "127.0.0.1", 1, "", "", enable_db_functions=True)
    with pytest.raises(UnsafeSetting):
        EventRecorder(datastore)
    datastore.close()


@pytest.mark.parametrize(
    "topic", ["os:system", "events.conversations:MessagePosted", "thalweg.conversations.unheard_of"]
)
def test_a_row_is_never_an_import(topic: str) -> None:
    state = EventMapper().encode(append().events[0]).state
    with pytest.raises(Undecodable, match="unknown event type"):
        EventMapper().decode(StoredEvent(fresh_id(), 1, topic, state))


def test_rows_carry_the_stable_type_and_come_back_as_they_were() -> None:
    recorded = append().events[0]
    mapper = EventMapper()
    stored = mapper.to_stored_event(DomainRecord(recorded))
    assert stored.topic == "thalweg.conversations.conversation_started"
    assert mapper.to_domain_event(stored) == DomainRecord(recorded)
