"""The read models on a real Postgres; and what only Postgres can do: websearch, being away."""

import pytest

from commands.errors import StoreUnavailable
from infra.read_models import HistoriesReadModel, ReadModels
from tests.contracts.read_models.sides import PostgresSide, Side
from tests.contracts.read_models.suite import (
    ODD,
    AppliedContract,
    HistoriesContract,
    UsageContract,
)
from tests.projections.histories_events import SUBJECT, TENANT, Told


@pytest.fixture
def side(postgres: PostgresSide) -> Side:
    return postgres


class TestHistories(HistoriesContract): ...


class TestApplied(AppliedContract): ...


class TestUsage(UsageContract): ...


async def found(side: Side, query: str) -> list[str]:
    read = await side.histories.search(TENANT, SUBJECT, query, below=None, limit=9)
    return [one.excerpt for one in read.value]


async def test_a_search_takes_what_people_type_into_search_boxes(side: Side) -> None:
    told = Told()
    for text in ("the deep river", "river deep", "mountain high", "deep sea"):
        told.post(text)
    side.tell(told)
    assert sorted(await found(side, "river deep")) == ["river deep", "the deep river"]
    assert await found(side, '"river deep"') == ["river deep"]
    assert await found(side, "deep -river") == ["deep sea"]
    assert sorted(await found(side, "sea or mountain")) == ["deep sea", "mountain high"]
    assert await found(side, "-river -sea") == ["mountain high"]
    for noise in ("' | !", "\\", "a:*", "((", ODD):
        await found(side, noise)


async def test_marks_are_of_the_excerpt_whatever_the_text_holds(side: Side) -> None:
    told = Told()
    told.post(f"{ODD} needle {ODD} " + "hay " * 5_000 + f"{ODD} needle {ODD}")
    side.tell(told)
    read = await side.histories.search(TENANT, SUBJECT, "needle", below=None, limit=9)
    [one] = read.value
    assert [one.excerpt[start:end] for start, end in one.marks] == ["needle", "needle"]
    assert len(one.excerpt) < 1_000
    assert "\x1a2" not in one.excerpt


async def test_before_the_projections_have_run_it_is_said(models: ReadModels) -> None:
    histories = HistoriesReadModel(models)
    with pytest.raises(StoreUnavailable):
        await histories.conversation(TENANT, Told().id)
