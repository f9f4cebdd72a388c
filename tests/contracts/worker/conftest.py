"""Real Kafka and Postgres, an engine of numbered tokens, and workers as processes."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from events.topics import Topics
from infra.engine_addresses import EngineAddress
from infra.event_store import open_conversation_store
from infra.kafka.topics import make_topics
from infra.settings import Settings
from tests.contracts.worker.asking import Installation
from tests.fixtures.numbered_process import NumberedEngine
from tests.fixtures.processes import Process
from tests.fixtures.servers import DatabaseUrl

PARTITIONS = 4
StartWorker = Callable[[], Process]


@pytest.fixture
def numbered_engine(tmp_path: Path) -> Iterator[EngineAddress]:
    engine = NumberedEngine(tmp_path).listens()
    yield EngineAddress.parse(f"tgi+http://{engine.address}")
    engine.stop()


@pytest.fixture
async def installation(
    kafka: str, database_url: DatabaseUrl, topic_prefix: str, numbered_engine: EngineAddress
) -> AsyncIterator[Installation]:
    settings = Settings(
        kafka=kafka,
        single_machine=True,
        partitions=PARTITIONS,
        engines=(numbered_engine,),
        conversations_database_url=database_url("conversations"),
    )
    topics = Topics(topic_prefix.rstrip("."))
    await make_topics(kafka, topics, settings)
    store = await open_conversation_store(settings.database_url("conversations"))
    installation = Installation(settings, topics, store)
    await installation.open()
    yield installation
    await installation.close()
    await store.close()


@pytest.fixture
def start_worker(installation: Installation, tmp_path: Path) -> Iterator[StartWorker]:
    started: list[Process] = []

    def start() -> Process:
        log = tmp_path / f"worker-{len(started)}.log"
        worker = Process(
            log,
            "-m",
            "tests.contracts.worker.process",
            installation.topics.prefix,
            env=installation.settings.environment(),
        )
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.stop()
