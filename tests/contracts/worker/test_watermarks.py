"""Nothing is committed past a message that is not finished."""

from hypothesis import given
from hypothesis import strategies as st

from infra.answers_worker.watermarks import Watermarks

P = ("work", 0)


@given(st.integers(0, 5), st.lists(st.one_of(st.none(), st.integers(0, 20)), max_size=60))
def test_the_watermark_is_the_oldest_unfinished_message_or_the_next(
    start: int, acts: list[int | None]
) -> None:
    """None takes the next message; a number finishes that one, if it was taken."""
    marks, taken, unfinished = Watermarks(), start, set[int]()
    for act in acts:
        if act is None:
            assert marks.take(P, taken)
            unfinished.add(taken)
            taken += 1
        elif act < taken:
            marks.finish(P, act)
            unfinished.discard(act)
    if taken == start:
        assert marks.watermark(P) is None
    else:
        assert marks.watermark(P) == min(unfinished, default=taken)


def test_what_comes_again_is_passed_over_if_it_was_finished_and_taken_if_not() -> None:
    marks = Watermarks()
    for offset in range(3, 7):
        assert marks.take(P, offset)
    marks.finish(P, 4)
    assert [marks.take(P, offset) for offset in range(3, 7)] == [True, False, True, True]
    assert marks.watermark(P) == 3


def test_an_older_message_than_the_first_begins_anew() -> None:
    marks = Watermarks()
    marks.take(P, 8)
    marks.finish(P, 8)
    assert marks.watermark(P) == 9
    assert marks.take(P, 5)
    marks.finish(P, 5)
    assert marks.watermark(P) == 6
    assert [marks.take(P, offset) for offset in (6, 7, 8)] == [True, True, True]
    assert marks.watermark(P) == 6


def test_lost_partitions_are_forgotten() -> None:
    marks = Watermarks()
    marks.take(P, 3)
    marks.take(("work", 1), 7)
    marks.keep({("work", 1)})
    assert marks.watermark(P) is None
    assert marks.partitions() == [("work", 1)]
    marks.finish(P, 3)
