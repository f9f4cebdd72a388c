"""A failpoint that is placed nowhere proves nothing, and one without a description says nothing."""

import re
from collections import Counter

from infra.failpoints import CATALOGUE
from tests.house.test_house_rules import ROOT, tracked

PLACED = re.compile(r"""\bhit\(\s*"([^"]*)"\s*\)""")
CALLED = re.compile(r"""(?<!def )\b(?:failpoints\.)?hit\(""")
ROOMS = ("events", "commands", "processors", "sagas", "projections", "gateway", "infra")


def _placed() -> Counter[str]:
    return Counter(
        name for path in tracked("infra/*.py") for name in PLACED.findall(path.read_text())
    )


def test_each_failpoint_of_the_catalogue_is_placed_once_and_no_other_is() -> None:
    """Twice, and "killed at the second hit" would say nothing about where."""
    assert _placed() == Counter(CATALOGUE.keys())


def test_a_failpoint_is_hit_by_its_literal_name_and_only_in_infra() -> None:
    """All side effects are there; a name that is put together escapes the test above."""
    found = []
    for path in tracked(*(f"{room}/*.py" for room in ROOMS)):
        if path == ROOT / "infra" / "failpoints.py" or "hit(" not in (text := path.read_text()):
            continue
        is_infra = path.is_relative_to(ROOT / "infra")
        if not is_infra or len(CALLED.findall(text)) != len(PLACED.findall(text)):
            found.append(str(path.relative_to(ROOT)))
    assert found == []


def test_each_failpoint_says_what_lies_before_it_and_what_behind() -> None:
    for name, between in CATALOGUE.items():
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", name)
        assert len(between.split(" | ")) == 2, name
