"""A read model and the way events get into it: in memory, and on a real Postgres."""

from collections.abc import Sequence
from typing import Protocol

from events.envelope import Recorded
from gateway.read_ports import Histories, UsageSums
from infra.read_models import HistoriesReadModel, ReadModels, UsageReadModel
from projections.conversations import Histories as HistoriesProjection
from projections.runner import Runner
from projections.tables import Db
from projections.usage import Usage
from projections.versions import adopt
from tests.contracts.projections.deliver import Partition
from tests.gateway.memory_histories import MemoryHistories
from tests.gateway.memory_usage import MemoryUsage
from tests.projections.histories_events import Told


class Side(Protocol):
    histories: Histories
    usage: UsageSums

    def tell(self, *told: Told) -> None:
        """Everything that they have said since the last time happens."""

    def park(self, told: Told) -> None:
        """Nothing more of its stream is applied."""


class MemorySide:
    def __init__(self) -> None:
        self._events: list[Recorded] = []
        self._memory = MemoryHistories(lambda: self._events)
        self.histories: Histories = self._memory
        self.usage: UsageSums = MemoryUsage(lambda: self._events)

    def tell(self, *told: Told) -> None:
        for one in told:
            self._events += new_of(one)
        self._memory.catch_up()

    def park(self, told: Told) -> None:
        self._memory.parked.add(told.id)


class PostgresSide:
    def __init__(self, db: Db, models: ReadModels) -> None:
        self._db = db
        self._log = Partition()
        self.runners = [Runner(one, gap_seconds_max=1) for one in (HistoriesProjection(), Usage())]
        for runner in self.runners:
            runner.create(db)
            adopt(db, runner.projection.tables)
        self.histories: Histories = HistoriesReadModel(models)
        self.usage: UsageSums = UsageReadModel(models)

    def tell(self, *told: Told) -> None:
        batch = self._log.send([event for one in told for event in new_of(one)])
        for runner in self.runners:
            runner.apply(self._db, batch)

    def park(self, told: Told) -> None:
        parked = "INSERT INTO histories_v1_parked (stream, problem) VALUES (%s, 'a test')"
        self._db.execute(parked, (told.id,))


def new_of(told: Told) -> Sequence[Recorded]:
    """What it has said since the last time."""
    before = told.told
    told.told = len(told.recorded)
    return told.recorded[before:]
