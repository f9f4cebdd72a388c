"""One short round of every case. A failure names the seed that plays it again."""

import zlib
from pathlib import Path

import pytest

from tests.faults.case import Case, Form
from tests.faults.cases import CASES
from tests.faults.installations import Installations
from tests.faults.runner import play

START_SECONDS_MAX = 300
"""Of an installation that a case may be the first to ask for, and to stop the one before it."""


def short_cases() -> list[Case]:
    """Those of one installation together."""
    cases = [case for case in CASES if Form.SHORT in case.forms]
    return sorted(cases, key=lambda case: case.installation.name)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.timeout(case.seconds_max + START_SECONDS_MAX))
        for case in short_cases()
    ],
    ids=str,
)
async def test_nothing_is_lost_after(
    case: Case, installations: Installations, tmp_path: Path
) -> None:
    seed = zlib.crc32(case.name.encode())
    verdict = await play(case, installations.of(case.installation), seed, tmp_path, long=False)
    if verdict.found:
        installations.stop()
    assert verdict.found == [], f"seed {seed}, history in {tmp_path}"


def test_a_name_means_one_case_and_one_installation() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    installations = [case.installation for case in CASES]
    names = {one.name for one in installations}
    assert len({id(one) for one in installations}) == len(names)
