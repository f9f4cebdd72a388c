"""Each way in which a command is refused has a status at the door, and a place in docs/api.md."""

import re
from pathlib import Path

import pytest

from commands import errors
from commands.errors import Refused
from gateway.errors import STATUS_OF_REFUSED

DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"
NEVER_AT_THE_DOOR = {errors.UnknownKey, errors.UnknownTenant}  # `thalweg keys` says these
CANNOT_COME = {
    errors.StalePosition,  # no route sends an expected position
    errors.NothingToAnswer,  # a body without messages is refused before
}


def refusals() -> list[type[Refused]]:
    return sorted(Refused.__subclasses__(), key=lambda one: one.__name__)


@pytest.mark.parametrize("refused", refusals())
def test_a_refusal_has_a_status(refused: type[Refused]) -> None:
    assert refused in STATUS_OF_REFUSED, "list it in gateway/errors.py, or clients get a 500"


@pytest.mark.parametrize("refused", refusals())
def test_a_refusal_is_documented_under_its_status(refused: type[Refused]) -> None:
    if refused in NEVER_AT_THE_DOOR | CANNOT_COME:
        return
    rows = re.findall(r"^\| ([\d, ]+) \| (.+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    listed = {status: codes for numbers, codes in rows for status in map(int, numbers.split(", "))}
    assert f"`{refused.CODE}`" in listed[STATUS_OF_REFUSED[refused]]


def test_no_two_refusals_have_the_same_code() -> None:
    codes = [one.CODE for one in refusals()]
    assert len(codes) == len(set(codes))
