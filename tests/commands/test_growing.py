"""A mapping that only grows, in which every version stays what it was."""

from collections.abc import Mapping
from time import process_time

from hypothesis import given as for_all
from hypothesis import strategies as st

from commands.conversations import CONVERSATIONS
from commands.growing import Growing
from events.envelope import Event
from events.ids import AnswerId, MessageId, fresh_id
from tests.commands.examples import ended, posted, requested, started

steps = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.integers()), max_size=40)


@for_all(steps)
def test_every_version_equals_the_dict_of_what_was_put_into_it(
    given: list[tuple[int, int, int]],
) -> None:
    versions: list[tuple[Growing[int, int], dict[int, int]]] = [(Growing(), {})]
    for which, key, value in given:  # any version may be grown from, not only the newest
        version, plain = versions[which % len(versions)]
        versions.append((version.plus(key, value), {key: value, **plain}))
    for version, plain in versions:
        assert version == plain
        assert len(version) == len(plain)
        assert list(version) == list(dict(version))
        assert all(version.get(key) == plain.get(key) for key in range(10))


def test_an_empty_version_does_not_gather_the_keys_of_those_that_began_there() -> None:
    empty: Growing[str, int] = Growing()
    one, other = empty.plus("a", 1), empty.plus("b", 2)
    assert (dict(empty), dict(one), dict(other)) == ({}, {"a": 1}, {"b": 2})
    assert empty._shared == {}


def long_conversation(turns: int) -> list[Event]:
    events: list[Event] = [started]
    head = None
    for _ in range(turns):
        message, answer = MessageId(fresh_id()), AnswerId(fresh_id())
        events += [posted(message, head), requested(answer, message), ended(answer)]
        head = answer
    return events


def test_a_long_conversation_costs_as_much_per_event_as_a_short_one() -> None:
    """Four times the turns take about four times as long; if mappings were copied, sixteen times.

    The best of several runs, so that a busy machine is no failure."""

    def seconds(events: list[Event]) -> float:
        state, begun = CONVERSATIONS.initial, process_time()
        for event in events:
            state = CONVERSATIONS.evolve(state, event)
        assert isinstance(state.ends, Mapping)
        return process_time() - begun

    short, long = long_conversation(1_000), long_conversation(4_000)
    assert min(seconds(long) for _ in range(3)) < 8 * min(seconds(short) for _ in range(3))
