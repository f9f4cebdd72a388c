from processors.answers.scheduling.counters import Counters
from tests.processors.answers.scheduling.made import tenant

ONE, TWO = tenant(1), tenant(2)


def used(tokens: int) -> Counters:
    """The first tenant has been there alone, and has used so many."""
    counters = Counters()
    counters.begins(ONE, ())
    counters.charge(ONE, 1_000)
    counters.settle(ONE, 1_000, tokens)
    return counters


def test_who_comes_new_begins_where_the_least_served_is():
    counters = used(500)
    counters.begins(TWO, [ONE])
    assert counters.of(TWO) == 500


def test_who_comes_after_everybody_has_left_begins_where_the_last_one_was():
    counters = used(500)
    counters.is_last(ONE)
    counters.begins(TWO, ())
    assert counters.of(TWO) == 500


def test_what_was_charged_too_much_comes_back():
    counters = used(50)
    assert counters.of(ONE) == 50


def test_a_call_under_way_counts_as_what_it_may_use():
    counters = used(50)
    counters.charge(ONE, 1_000)
    assert counters.of(ONE) == 1_050


def test_who_comes_new_does_not_begin_at_what_others_are_charged_and_will_not_use():
    counters = used(50)
    for _ in range(6):
        counters.charge(ONE, 1_000)
    counters.begins(TWO, [ONE])
    for _ in range(6):
        counters.settle(ONE, 1_000, 10)
    assert (counters.of(ONE), counters.of(TWO)) == (110, 50)
