"""The page of `make faults` says what the verdicts say, and bounds only what was judged."""

import pytest

from tests.faults.report import bound, report, spread
from tests.faults.verdict import Verdict


@pytest.mark.parametrize(
    ("broken", "of", "told"),
    [
        (0, 20, "13.9%"),  # 1 - 0.05 ** (1 / 20); the rule of three says 15 %
        (0, 3_000_000, "1 in 1,001,425"),
        (1, 20, "not bounded: see what was found"),
        (0, 0, "nothing was judged"),
    ],
)
def test_a_zero_of_n_allows_so_much_and_no_less(broken: int, of: int, told: str) -> None:
    assert bound(broken, of) == told


def test_what_was_found_stands_on_the_page() -> None:
    good = Verdict("kill relay", "relay", 1, tokens=1_000, commands=50, silences=[0.1, 0.3])
    bad = Verdict("kill relay", "relay", 2, found=["gap: answer x: 5 after 3"], lost=1)
    page = report([good, bad], command="make faults ROUNDS=2", names=37)
    assert "| kill relay | 2 | 1 | 1,000 | 1 | 0 | 50 | 0 |" in page
    assert "- kill relay, seed 2: gap: answer x: 5 after 3" in page
    assert "`make faults ROUNDS=2`, 1 cases, 2 to 2 rounds of each, 2 in all." in page


def test_a_page_without_findings_has_no_list_of_them() -> None:
    good = Verdict("kill relay", "relay", 1, tokens=1_000)
    assert "What was found" not in report([good], command="make faults", names=37)


def test_the_spread_of_few_is_of_those_few() -> None:
    assert spread([]) == (0, 0, 0)
    assert spread([2.0]) == (2, 2, 2)
    assert spread([1.0, 2.0, 3.0])[0] == 2
