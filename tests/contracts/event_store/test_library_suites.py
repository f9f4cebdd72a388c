"""eventsourcing's own contract suites, held against our recorders."""

from collections.abc import Iterator

import pytest
from eventsourcing.tests.persistence import (
    ApplicationRecorderTestCase,
    NonInterleavingNotificationIDsBaseCase,
)

from infra.event_store.answers import ConversationRecorder
from infra.event_store.memory import MemoryRecorder
from infra.event_store.recorder import EventRecorder
from infra.event_store.store import open_recorder
from tests.fixtures.servers import DatabaseUrl


class OnPostgres:
    """Gives each test a recorder on an empty database."""

    recorder_class: type[EventRecorder]
    schema: str

    @pytest.fixture(autouse=True)
    def recorder_on_postgres(self, database_url: DatabaseUrl) -> Iterator[None]:
        url = database_url(self.schema)
        self.recorder = open_recorder(self.recorder_class, self.schema, url, connections_max=12)
        yield
        self.recorder.datastore.close()

    def create_recorder(self) -> EventRecorder:
        return self.recorder


@pytest.mark.slow
class TestEventRecorder(OnPostgres, ApplicationRecorderTestCase[EventRecorder]):
    recorder_class = EventRecorder
    schema = "accounts"


@pytest.mark.slow
class TestConversationRecorder(OnPostgres, ApplicationRecorderTestCase[EventRecorder]):
    recorder_class = ConversationRecorder
    schema = "conversations"


@pytest.mark.slow
class TestEventRecorderDoesNotInterleave(OnPostgres, NonInterleavingNotificationIDsBaseCase):
    recorder_class = EventRecorder
    schema = "accounts"


class TestMemoryRecorder(ApplicationRecorderTestCase[MemoryRecorder]):
    def create_recorder(self) -> MemoryRecorder:
        return MemoryRecorder()


class TestMemoryRecorderDoesNotInterleave(NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> MemoryRecorder:
        return MemoryRecorder()


del ApplicationRecorderTestCase, NonInterleavingNotificationIDsBaseCase  # not to be run themselves
