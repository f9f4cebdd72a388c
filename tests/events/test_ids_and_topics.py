"""Ids that repeat where they must, and topics that events are sent to."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from events.conversations import AnswerAskedAgain, AnswerCancelRequested, AnswerRequested, Band
from events.envelope import Event
from events.ids import derived_id, fresh_id
from events.topics import Topics
from tests.events.strategies import EVENTS

TENANT = UUID(int=1)


def test_the_same_command_speaks_of_the_same_things() -> None:
    assert derived_id(TENANT, "key:a", "answer") == derived_id(TENANT, "key:a", "answer")


def test_tenants_commands_and_things_have_different_ids() -> None:
    made = {
        derived_id(tenant, command, thing)
        for tenant in (TENANT, UUID(int=2))
        for command in ("key:a", "key:b")
        for thing in ("answer", "message:0", "message:1")
    }
    assert len(made) == 12


def test_fresh_ids_rise() -> None:
    made = [fresh_id() for _ in range(1_000)]
    assert made == sorted(set(made))
    assert {one.version for one in made} == {7}


@given(st.one_of(*EVENTS.values()))
def test_every_event_goes_to_its_domain_topic_first(event: Event) -> None:
    routes = Topics("test").routes(event)
    assert routes[0] == f"test.{event.context()}"
    assert len(set(routes)) == len(routes)


@given(EVENTS[AnswerRequested])
def test_an_answer_that_is_asked_for_is_work_of_its_band(event: AnswerRequested) -> None:
    assert Topics().routes(event)[1:] == (f"thalweg.answers.{event.band.value}",)


@given(EVENTS[AnswerAskedAgain])
def test_an_answer_is_asked_again_where_it_was_asked_for(event: AnswerAskedAgain) -> None:
    topics = Topics()
    assert topics.routes(event) == ("thalweg.conversations", topics.work(event.band))


@given(EVENTS[AnswerCancelRequested])
def test_a_cancel_is_urgent(event: AnswerCancelRequested) -> None:
    assert Topics().routes(event)[1:] == (Topics().work(Band.PRIORITY),)
