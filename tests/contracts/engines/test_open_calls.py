"""The numbered engine tells calls that stay beyond its places from an end that is on its way."""

from tests.fixtures.open_calls import CLOSED_SECONDS, OpenCalls


def test_calls_count_as_held_once_they_were_open_together_for_long() -> None:
    now = [0.0]
    calls = OpenCalls(lambda: now[0])
    for _ in range(3):
        calls.opens()
    now[0] += CLOSED_SECONDS
    for _ in range(20):  # the next one comes before the end of one has come, each time
        calls.opens()
        now[0] += CLOSED_SECONDS / 2
        calls.closes()
    assert (calls.open_max, calls.held_max()) == (4, 3)
    calls.opens()
    now[0] += CLOSED_SECONDS
    assert calls.held_max() == 4
    calls.closes()
    assert (calls.open, calls.held_max()) == (3, 4)
