"""The judge sees each kind of broken promise: a check that cannot fail proves nothing."""

from uuid import uuid4

import pytest

from tests.faults.clients import Turn
from tests.faults.judge import shown

GOOD = [(0, " 0 1"), (1, " 2"), (2, " 3"), (3, "")]


def turn(seen: list[tuple[int, str]], *, kind: str | None = "finish") -> Turn:
    end = {"kind": kind} if kind else None
    return Turn(uuid4(), "tokens=4", "key", uuid4(), seen=seen, end=end)


def test_a_whole_answer_is_found_good() -> None:
    assert shown(turn(GOOD)) == []


@pytest.mark.parametrize(
    ("what", "seen", "kind"),
    [
        ("a gap", [(0, " 0 1"), (2, " 3"), (3, "")], "finish"),
        ("a repeat", [(0, " 0 1"), (1, " 2"), (1, " 2"), (2, " 3"), (3, "")], "finish"),
        ("a splice", [(0, " 0 1"), (1, " 0"), (2, " 1"), (3, "")], "finish"),
        ("a lost token", [(0, " 0 1"), (1, " 3"), (2, "")], "finish"),
        ("a truncated answer", [(0, " 0 1"), (1, "")], "finish"),
        ("no end", GOOD, None),
        ("a failure", GOOD, "fail"),
    ],
)
def test_it_sees(what: str, seen: list[tuple[int, str]], kind: str | None) -> None:
    assert shown(turn(seen, kind=kind)), what
