"""Chunks go at once while few answers speak, and at the same moments once many do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.answers.pace import ANSWERS_AT_ONCE_MAX, Pace

WINDOW = 0.02
FEW, MANY = ANSWERS_AT_ONCE_MAX, 10 * ANSWERS_AT_ONCE_MAX


def spoken(pace: Pace, answers: int, at: float) -> None:
    for answer in range(answers):
        pace.sent(answer, at)


@pytest.mark.parametrize(("answers", "is_held"), [(FEW, False), (FEW + 1, True)])
def test_a_chunk_waits_only_if_many_answers_speak(answers: int, is_held: bool) -> None:
    pace = Pace(WINDOW)
    spoken(pace, answers, 1.001)
    assert (pace.due(1.002) > 1.002) is is_held
    assert (pace.due(1.022) > 1.022) is is_held, "in the window behind it too"


def test_one_answer_never_waits_however_quick_it_is() -> None:
    pace = Pace(WINDOW)
    for chunk in range(1_000):
        now = 1 + chunk / 1_000
        assert pace.due(now) == now
        pace.sent("one", now)


def test_what_waits_waits_for_the_same_moment() -> None:
    pace = Pace(WINDOW)
    spoken(pace, MANY, 1.001)
    assert len({pace.due(1 + ms / 1_000) for ms in range(2, 20)}) == 1


def test_after_the_rush_nothing_waits() -> None:
    pace = Pace(WINDOW)
    spoken(pace, MANY, 1.001)
    assert pace.due(1.045) == 1.045


def test_without_a_window_nothing_waits() -> None:
    pace = Pace(0)
    spoken(pace, MANY, 1.001)
    assert pace.due(1.002) == 1.002


@given(st.lists(st.tuples(st.floats(0, 0.05), st.integers(0, 30)), max_size=50))
def test_nothing_waits_longer_than_a_window(steps: list[tuple[float, int]]) -> None:
    pace, now = Pace(WINDOW), 1.0
    for pause, answer in steps:
        now += pause
        assert now <= pace.due(now) <= now + WINDOW * 1.001
        pace.sent(answer, now)
