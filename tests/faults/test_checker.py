"""The checker finds nothing in what a faultless installation does, and each way to spoil that by
its own name: a check that cannot fail proves nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.case import USUAL_REFUSALS
from tests.faults.checker import ANOMALIES, Rules, check
from tests.faults.invented import Invented, invent
from tests.faults.spoils import Spoil
from tests.faults.spoils_of_answers import SPOILS as OF_ANSWERS
from tests.faults.spoils_of_writes import SPOILS as OF_WRITES

SPOILS = [*OF_ANSWERS, *OF_WRITES]
RULES = Rules(USUAL_REFUSALS)
EXAMPLES = 8


def names(invented: Invented, rules: Rules = RULES) -> set[str]:
    return {one.name for one in check(invented.history, invented.stored, rules)}


@given(st.integers(0, 2**32))
@settings(max_examples=EXAMPLES, deadline=None)
def test_what_a_faultless_installation_does_is_found_good(seed: int) -> None:
    invented = invent(seed)
    assert check(invented.history, invented.stored, RULES) == []


@pytest.mark.parametrize(("anomaly", "spoil"), SPOILS, ids=[name for name, _ in SPOILS])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=EXAMPLES, deadline=None)
def test_it_finds(anomaly: str, spoil: Spoil, seed: int) -> None:
    invented = invent(seed, clients=6)
    spoil(invented)
    assert anomaly in names(invented)


def test_every_anomaly_of_the_catalogue_can_be_found() -> None:
    assert {name for name, _ in SPOILS} == set(ANOMALIES)
