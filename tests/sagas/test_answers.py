"""Answers that are open past their deadline are asked for again, and none for ever."""

from collections.abc import Sequence
from uuid import UUID

from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from events.ids import AnswerId
from sagas.answers import OVERDUE, Open, Put
from sagas.saga import Answer, Fired, Timer
from tests.sagas.given import (
    AGAIN,
    DEADLINE,
    GRACE,
    SAGA,
    TIMES_MAX,
    A,
    again,
    asked,
    ended,
    given,
    recorded,
    told,
)

LATE = Fired(OVERDUE)


def test_an_answer_that_is_asked_for_has_until_its_deadline_and_a_grace() -> None:
    given().when(asked()).then(timers=(Timer(OVERDUE, DEADLINE + GRACE),))


def test_an_end_is_the_end_of_it() -> None:
    given(asked()).when(ended()).is_over()
    given(asked(), LATE).when(ended()).is_over()
    given(asked(), *[LATE] * (TIMES_MAX + 1)).when(ended()).is_over()


def test_an_answer_that_is_late_is_asked_for_again_and_waited_for_again() -> None:
    given(asked()).when(LATE).then((again(1),), (Timer(OVERDUE, AGAIN),))


def test_each_time_it_is_waited_for_longer() -> None:
    given(asked(), LATE).when(LATE).then((again(2),), (Timer(OVERDUE, 2 * AGAIN),))
    given(asked(), LATE, LATE).when(LATE).then((again(3),), (Timer(OVERDUE, 4 * AGAIN),))


def test_after_so_many_times_a_person_is_called_and_nothing_more_is_asked() -> None:
    given(asked(), *[LATE] * TIMES_MAX).when(LATE).calls_a_person(f"again {TIMES_MAX} times")


def test_a_request_that_comes_once_more_changes_nothing() -> None:
    given(asked()).when(asked()).nothing_happens()
    given(asked(), LATE).when(asked()).nothing_happens()


def test_an_end_of_an_answer_that_is_not_waited_for_is_nothing() -> None:
    given().when(ended()).is_over()
    given().when(LATE).nothing_happens()
    given().when(told(Answer.DONE)).nothing_happens()


def test_a_store_that_knows_the_end_ends_the_wait_whether_or_not_the_event_comes() -> None:
    """An old request may come once more after its end: that would be waited for in vain."""
    given(asked(), LATE).when(told(Answer.POINTLESS)).is_over()


def test_what_the_stores_clock_takes_for_too_early_has_not_been_asked() -> None:
    early = told(Answer.TOO_EARLY, seconds=100)
    given(asked(), LATE).when(early).then(timers=(Timer(OVERDUE, 100 + GRACE),))
    given(asked(), LATE, early).when(LATE).then((again(1),), (Timer(OVERDUE, AGAIN),))


def test_what_became_of_a_command_long_ago_changes_nothing() -> None:
    given(asked(), LATE, LATE).when(told(Answer.TOO_EARLY, times=1)).nothing_happens()
    given(asked(), LATE).when(told(Answer.DONE)).nothing_happens()
    given(asked(), LATE).when(told(Answer.REFUSED)).nothing_happens()


def test_what_is_kept_is_read_again_as_it_was() -> None:
    state = given(asked(), LATE).state
    assert state is not None
    assert Open.model_validate_json(state.model_dump_json()) == state


ANSWERS = [AnswerId(UUID(int=number)) for number in (20, 21, 22)]


def waits(puts: Sequence[tuple[AnswerId, Put]]) -> dict[AnswerId, tuple[Timer, ...]]:
    """The timers that run after all this, by answer."""
    states: dict[AnswerId, Open | None] = {}
    timers: dict[AnswerId, tuple[Timer, ...]] = {}
    for answer, put in puts:
        reaction = SAGA.react(states.get(answer), put)
        states[answer] = reaction.state
        if reaction.state is None:
            timers.pop(answer, None)
        elif reaction.timers is not None:
            timers[answer] = reaction.timers
    return timers


@hypothesis_given(st.data())
def test_however_the_events_of_answers_interleave_and_repeat_the_same_timers_run(
    data: st.DataObject,
) -> None:
    """Within a stream there is an order; a repeat comes with all that followed it, once more."""
    streams: list[list[tuple[AnswerId, Put]]] = []
    for answer in ANSWERS:
        told_once: list[tuple[AnswerId, Put]] = [(answer, asked(answer, 60 + answer.int))]
        if data.draw(st.booleans()):
            told_once.append((answer, ended(answer)))
        repeats = data.draw(st.lists(st.integers(0, len(told_once) - 1), max_size=3))
        streams.append(told_once + [one for start in repeats for one in told_once[start:]])
    plain = waits([one for stream in streams for one in dict(map(_keyed, stream)).values()])
    mixed: list[tuple[AnswerId, Put]] = []
    while any(streams):
        stream = data.draw(st.sampled_from([one for one in streams if one]))
        mixed.append(stream.pop(0))
    assert waits(mixed) == plain


def _keyed(one: tuple[AnswerId, Put]) -> tuple[object, tuple[AnswerId, Put]]:
    return one[1], one


@hypothesis_given(st.lists(st.sampled_from([asked(), LATE, told(Answer.DONE)]), max_size=40))
def test_whatever_comes_it_is_asked_for_a_bounded_number_of_times(puts: list[Put]) -> None:
    state: Open | None = None
    sent = []
    for put in puts:
        reaction = SAGA.react(state, put)
        state = reaction.state
        sent += [command.id for command in reaction.commands]
    assert len(sent) == len(set(sent)) <= TIMES_MAX


def test_an_instance_is_found_by_the_data_of_its_events() -> None:
    for one in (asked(), ended()):
        assert SAGA.instance(one.event.model_dump(mode="json")) == A
    assert recorded(ended().event).event == ended().event
