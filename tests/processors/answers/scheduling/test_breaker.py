import pytest

from processors.answers.scheduling.breaker import Breaker, BreakerLimits, BreakerState

LIMITS = BreakerLimits(
    failures_in_a_row_max=3,
    outcomes_kept=10,
    failed_share_max=0.5,
    pause_seconds=1.0,
    pause_seconds_max=4.0,
    slow_start_seconds=10.0,
    full_pause_seconds=0.1,
    full_pause_seconds_max=0.4,
)


@pytest.fixture
def breaker() -> Breaker:
    return Breaker(LIMITS)


def fail(breaker: Breaker, now: float, *, away: bool = False) -> None:
    breaker.began()
    breaker.failed(now, now + 0.003, away=away)


def opened(breaker: Breaker, now: float = 0.0) -> Breaker:
    fail(breaker, now, away=True)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_an_engine_that_fails_each_call_in_milliseconds_gets_three(breaker):
    for at in (0.0, 0.01):
        fail(breaker, at)
        assert breaker.calls_max(32, at) == 32
    fail(breaker, 0.02)
    assert breaker.state is BreakerState.OPEN
    assert breaker.calls_max(32, 0.5) == 0


def test_a_success_between_them_begins_the_count_anew(breaker):
    for at in range(9):
        if at % 3 == 2:
            breaker.succeeded(at)
        else:
            fail(breaker, at)
    assert breaker.state is BreakerState.CLOSED


def test_more_failures_than_successes_open_it_though_never_three_in_a_row(breaker):
    for at in range(10):
        if at in (2, 5, 8):
            breaker.succeeded(at)
        else:
            fail(breaker, at)
    assert breaker.state is BreakerState.OPEN


def test_a_batch_that_fails_together_is_one_failure(breaker):
    for _ in range(32):
        breaker.began()
    for number in range(32):
        breaker.failed(0.0, 1.0 + number / 1_000)
    assert breaker.state is BreakerState.CLOSED


def test_an_engine_that_is_not_there_is_not_asked_three_times(breaker):
    opened(breaker)


def test_full_is_no_failure_but_gets_nothing_for_a_moment_and_then_longer(breaker):
    now = 0.0
    for pause in (0.1, 0.2, 0.4, 0.4):
        breaker.full(now)
        assert breaker.calls_max(32, now + pause * 0.9) == 0
        now += pause
        assert breaker.calls_max(32, now) == 32
    assert breaker.state is BreakerState.CLOSED
    breaker.succeeded(now)
    breaker.full(now)
    assert breaker.calls_max(32, now + 0.1) == 32


def test_after_the_pause_its_health_is_asked_and_one_call_goes(breaker):
    opened(breaker)
    assert not breaker.probe_due(0.9)
    assert breaker.probe_due(1.1)
    breaker.probed(healthy=True, now=1.1)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.calls_max(32, 1.1) == 1
    breaker.began()
    assert breaker.calls_max(32, 1.2) == 0, "one at a time"


def test_the_pause_doubles_as_long_as_it_is_ill(breaker):
    opened(breaker)
    now = 0.0
    for pause in (1.0, 2.0, 4.0, 4.0):
        assert not breaker.probe_due(now + pause * 0.9)
        now += pause + 0.01
        assert breaker.probe_due(now)
        breaker.probed(healthy=False, now=now)


def test_a_probe_that_fails_opens_it_again(breaker):
    opened(breaker)
    breaker.probed(healthy=True, now=1.1)
    fail(breaker, 1.2)
    assert breaker.state is BreakerState.OPEN
    assert not breaker.probe_due(3.0)


def test_a_probe_that_says_nothing_of_the_engine_lets_another_go(breaker):
    opened(breaker)
    breaker.probed(healthy=True, now=1.1)
    breaker.began()
    breaker.let_go()
    assert breaker.calls_max(32, 1.2) == 1


def test_after_a_probe_that_succeeds_it_starts_slowly(breaker):
    opened(breaker)
    breaker.probed(healthy=True, now=1.1)
    breaker.began()
    breaker.succeeded(2.0)
    assert breaker.state is BreakerState.CLOSED
    allowed = [breaker.calls_max(32, 2.0 + seconds) for seconds in (0, 2.5, 5, 10)]
    assert allowed == [1, 8, 16, 32]


def test_a_late_failure_of_a_call_from_before_the_pause_changes_nothing(breaker):
    breaker.began()
    opened(breaker, now=5.0)
    breaker.failed(0.0, 5.5)
    assert breaker.probe_due(6.1)
    breaker.probed(healthy=True, now=6.1)
    breaker.began()
    breaker.failed(0.0, 6.2)
    assert breaker.state is BreakerState.HALF_OPEN, "the probe has not said anything yet"
    assert breaker.calls_max(32, 6.2) == 0
    breaker.failed(6.1, 6.3)
    assert breaker.state is BreakerState.OPEN


def test_a_probe_that_finds_the_engine_full_lets_another_go_after_a_moment(breaker):
    opened(breaker)
    breaker.probed(healthy=True, now=1.1)
    breaker.began()
    breaker.full(1.2)
    assert breaker.calls_max(32, 1.25) == 0
    assert breaker.calls_max(32, 1.31) == 1
