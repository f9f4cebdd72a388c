"""One whole Thalweg for all system tests, with its own local engine and demo model."""

from collections.abc import Iterator

import pytest

from tests.fixtures.thalweg import RunningThalweg


@pytest.fixture(scope="session")
def thalweg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningThalweg]:
    with RunningThalweg(tmp_path_factory.mktemp("system")) as running:
        yield running
