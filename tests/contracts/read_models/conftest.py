"""Read models on a real Postgres."""

from collections.abc import AsyncIterator, Iterator

import pytest

from infra.projections import connect
from infra.read_models import ReadModels
from projections.tables import Db
from tests.contracts.read_models.sides import PostgresSide
from tests.fixtures.servers import DatabaseUrl


@pytest.fixture
def url(database_url: DatabaseUrl) -> str:
    return database_url("projections")


@pytest.fixture
def db(url: str) -> Iterator[Db]:
    with connect(url) as connection:
        yield connection


@pytest.fixture
async def models(url: str) -> AsyncIterator[ReadModels]:
    made = ReadModels(url, connections_max=2)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def postgres(db: Db, models: ReadModels) -> PostgresSide:
    return PostgresSide(db, models)
