"""What every projection is tested on: a connection as the role has it."""

from collections.abc import Iterator

import pytest

from infra.projections import connect
from projections.tables import Db
from tests.fixtures.servers import DatabaseUrl


@pytest.fixture
def url(database_url: DatabaseUrl) -> str:
    return database_url("projections")


@pytest.fixture
def db(url: str) -> Iterator[Db]:
    with connect(url) as connection:
        yield connection
