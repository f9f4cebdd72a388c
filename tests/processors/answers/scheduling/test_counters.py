from processors.answers.scheduling.counters import Counters
from tests.processors.answers.scheduling.made import tenant

ONE, TWO = tenant(1), tenant(2)


def test_who_comes_new_begins_where_the_least_served_is():
    counters = Counters()
    counters.begins(ONE, ())
    counters.charge(ONE, 500)
    counters.begins(TWO, [counters.of(ONE)])
    assert counters.of(TWO) == 500


def test_who_comes_after_everybody_has_left_begins_where_the_last_one_was():
    counters = Counters()
    counters.begins(ONE, ())
    counters.charge(ONE, 500)
    counters.is_last(ONE)
    counters.begins(TWO, ())
    assert counters.of(TWO) == 500


def test_what_was_charged_too_much_comes_back():
    counters = Counters()
    counters.begins(ONE, ())
    counters.charge(ONE, 500)
    counters.charge(ONE, -450)
    assert counters.of(ONE) == 50


def test_a_refund_is_kept_though_others_came_meanwhile():
    counters = Counters()
    counters.begins(ONE, ())
    counters.charge(ONE, 500)
    counters.begins(TWO, [counters.of(ONE)])
    counters.charge(ONE, -450)
    assert counters.of(ONE) == 50
