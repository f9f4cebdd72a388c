import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from processors.answers.scheduling.choice import Because, choose
from processors.answers.scheduling.retries import RetryBudget, RetryLimits
from processors.answers.scheduling.seats import Figures, Seat, SeatLimits

LIMITS = SeatLimits(batch_requests=8, ahead_requests=2, batch_tokens=1_000, figures_seconds_max=2)


def seat(name: str = "one", *, in_flight: int = 0) -> Seat:
    made = Seat(name, limits=LIMITS)
    for _ in range(in_flight):
        made.began()
    return made


def able(*seats: Seat) -> list[Seat]:
    return [each for each in seats if each.room(0)]


def test_it_takes_a_batch_and_a_little_ahead():
    assert seat().room(0) == 10
    assert seat(in_flight=10).room(0) == 0


def test_a_worker_keeps_to_its_share():
    half = seat(in_flight=3)
    half.share = 5
    assert half.room(0) == 2
    half.share = 2
    assert half.room(0) == 0, "what is under way goes on; nothing is added"


def test_what_others_do_there_counts_as_long_as_it_is_fresh():
    busy = seat(in_flight=2)
    busy.told(Figures(at=1.0, queued=1, running=8))
    assert busy.room(1.5) == 10 - 2 - 7
    assert busy.load(1.5).load == 0.9
    assert busy.room(3.1) == 8, "stale: the own count alone"
    assert busy.load(3.1).age_seconds is None


def test_own_calls_that_end_make_room_before_the_next_figures():
    busy = seat(in_flight=6)
    busy.told(Figures(at=1.0, queued=0, running=6))
    busy.ended()
    assert busy.room(1.1) == 5


def test_the_probe_of_a_breaker_waits_for_no_call_from_before_the_pause():
    ill = seat(in_flight=3)  # they go on, for minutes perhaps
    for at in (1.0, 2.0, 3.0):
        ill.breaker.failed(at - 0.5, at)
    assert ill.room(9.0) == 0
    ill.breaker.probed(healthy=True, now=10.0)
    assert ill.room(10.0) == 1
    ill.began()
    assert ill.room(10.1) == 0, "one at a time"
    ill.breaker.let_go(began_at=0.0)
    assert ill.room(10.2) == 0, "who left was not the probe"


def test_own_calls_that_ended_while_an_engine_was_asked_are_nobody_elses():
    busy = seat(in_flight=6)
    for _ in range(3):
        busy.ended()
    busy.told(Figures(at=1.0, queued=0, running=6), in_flight=6)
    assert busy.room(1.1) == 7


def test_a_batch_without_room_for_tokens_is_full_whatever_its_number():
    heavy = seat(in_flight=1)
    heavy.told(Figures(at=1.0, queued=0, running=1, tokens=1_000))
    assert heavy.room(1.1) == 0
    assert heavy.room(3.1) == 9, "never a stop because nothing is known"


def test_the_engine_with_the_prefix_speaks_again_unless_it_is_full():
    warm, cold = seat("warm", in_flight=9), seat("cold")
    chosen = choose(able(warm, cold), 0, random.Random(1), prefer="warm")
    assert chosen is not None
    assert (chosen.seat, chosen.because) == (warm, Because.PREFIX)
    warm.began()
    chosen = choose(able(warm, cold), 0, random.Random(1), prefer="warm")
    assert chosen is not None
    assert (chosen.seat, chosen.because) == (cold, Because.ONLY)


def test_an_engine_to_be_avoided_speaks_only_if_there_is_no_other():
    broken, other = seat("broken"), seat("other", in_flight=9)
    chosen = choose(able(broken, other), 0, random.Random(1), avoid="broken", prefer="broken")
    assert chosen is not None
    assert chosen.seat is other
    other.began()
    chosen = choose(able(broken, other), 0, random.Random(1), avoid="broken")
    assert chosen is not None
    assert chosen.seat is broken


@given(st.integers(0, 2**32))
def test_the_fuller_of_two_is_never_chosen(seed):
    seats = [seat(str(number), in_flight=number) for number in range(10)]
    chosen = choose(able(*seats), 0, random.Random(seed))
    assert chosen is not None
    assert chosen.seat.load(0).load == min(load.load for _, load in chosen.looked_at)
    assert chosen.seat is not seats[9]


def test_load_spreads():
    seats = [seat(str(number)) for number in range(5)]
    chance = random.Random(7)
    for _ in range(40):
        chosen = choose(able(*seats), 0, chance)
        assert chosen is not None
        chosen.seat.began()
    assert Counter(each.in_flight for each in seats)[10] <= 1
    assert min(each.in_flight for each in seats) >= 6


def test_retries_are_a_share_of_the_traffic_and_a_few_besides():
    budget = RetryBudget(RetryLimits(share=0.2, per_second=1, window_seconds=10))
    for _ in range(100):
        budget.called(0.0)
    assert sum(budget.take(1.0) for _ in range(100)) == 20 + 10
    assert not budget.take(5.0)
    assert sum(budget.take(11.5) for _ in range(100)) == 10, "the window has passed"
