"""The fakes pass what the real ones pass."""

import pytest

from tests.contracts.read_models.sides import MemorySide, Side
from tests.contracts.read_models.suite import AppliedContract, HistoriesContract, UsageContract


@pytest.fixture
def side() -> Side:
    return MemorySide()


class TestHistories(HistoriesContract): ...


class TestApplied(AppliedContract): ...


class TestUsage(UsageContract): ...
