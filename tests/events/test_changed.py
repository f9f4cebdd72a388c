"""A state that is changed is a copy: the old one stays, and other fields are as they were."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from events.answers import EMPTY, Fold
from events.changed import changed

FOLDS = st.builds(
    Fold,
    model=st.text(max_size=3),
    chunks=st.lists(st.text(max_size=2), max_size=3).map(tuple),
    tokens=st.integers(0, 9),
)


@given(FOLDS, st.integers(0, 9), st.text(max_size=3))
def test_it_does_what_replace_does(state: Fold, tokens: int, model: str) -> None:
    before = replace(state)
    after = changed(state, tokens=tokens, model=model)
    assert after == replace(state, tokens=tokens, model=model)
    assert hash(after) == hash(replace(state, tokens=tokens, model=model))
    assert state == before


def test_two_copies_share_nothing_that_changes() -> None:
    first = changed(EMPTY, tokens=1)
    second = changed(first, model="m")
    assert (EMPTY.tokens, first.model, second.tokens, second.model) == (0, "", 1, "m")
