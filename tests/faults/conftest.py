"""One whole Thalweg for all faults, one after the other (see installations.py)."""

from collections.abc import Iterator

import pytest

from tests.faults.case import USUAL
from tests.faults.engines import Engines
from tests.faults.installations import Installations
from tests.fixtures.thalweg import RunningThalweg


@pytest.fixture(scope="session")
def installations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installations]:
    with Installations(tmp_path_factory.mktemp("faults")) as installations:
        yield installations


@pytest.fixture
def thalweg(installations: Installations) -> RunningThalweg:
    return installations.of(USUAL).thalweg


@pytest.fixture
def engines(installations: Installations) -> Engines:
    return installations.of(USUAL).engines
