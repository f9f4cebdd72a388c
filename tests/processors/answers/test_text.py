"""What may be shown does not depend on how the engine cuts its tokens."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from processors.answers.text import TextGatherer

ALPHABET = "ab é🌊"
TEXTS = st.text(ALPHABET, max_size=30)
STOPS = st.lists(st.text(ALPHABET, min_size=1, max_size=4), max_size=3)


def cut_at_first_stop(text: str, stop: list[str]) -> str:
    """The law, said naively: character by character."""
    for end in range(1, len(text) + 1):
        complete = [len(each) for each in stop if text[:end].endswith(each)]
        if complete:
            return text[: end - max(complete)]
    return text


def split(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut for cut in cuts if cut <= len(text))})
    return [text[a:b] for a, b in pairwise(places)]


@given(TEXTS, STOPS, st.lists(st.integers(0, 30)), st.lists(st.booleans(), min_size=40))
def test_the_chunks_are_the_text_up_to_the_first_stop_sequence(
    text: str, stop: list[str], cuts: list[int], takes: list[bool]
) -> None:
    gatherer = TextGatherer(stop)
    shown, tokens = "", 0
    expected = cut_at_first_stop(text, stop)
    for token, take in zip(split(text, cuts), takes, strict=False):
        if gatherer.stopped:
            break
        gatherer.add(token)
        if take:
            piece = gatherer.take()
            shown, tokens = shown + piece.text, tokens + piece.tokens
            assert expected.startswith(shown), "what was shown is never taken back"
    rest = gatherer.rest()
    assert shown + rest.text == expected
    assert gatherer.stopped == (expected != text)
    if not gatherer.stopped:
        assert tokens + rest.tokens == len(split(text, cuts))


@given(TEXTS, STOPS, st.lists(st.integers(0, 30)))
def test_what_cannot_become_a_stop_sequence_is_not_held_back(
    text: str, stop: list[str], cuts: list[int]
) -> None:
    gatherer = TextGatherer(stop)
    seen = ""
    for token in split(text, cuts):
        gatherer.add(token)
        if gatherer.stopped:
            return
        seen += token
        held = len(seen) - gatherer.ready
        assert held == 0 or any(each.startswith(seen[-held:]) for each in stop)


def test_without_stop_sequences_a_token_may_be_shown_at_once() -> None:
    gatherer = TextGatherer()
    gatherer.add("Hello", 7)
    piece = gatherer.take()
    assert (piece.text, piece.tokens, piece.token_ids) == ("Hello", 1, (7,))


def test_a_part_of_a_character_counts_with_the_token_that_completes_it() -> None:
    gatherer = TextGatherer()
    gatherer.add("", 1)
    gatherer.add("", 2)
    assert gatherer.ready == 0
    assert gatherer.take().tokens == 0
    gatherer.add("🌊", 3)
    piece = gatherer.take()
    assert (piece.text, piece.tokens, piece.token_ids) == ("🌊", 3, (1, 2, 3))


def test_a_token_that_is_held_back_in_part_counts_with_the_rest_of_it() -> None:
    gatherer = TextGatherer(["STOP"])
    gatherer.add("go ST", 1)
    first = gatherer.take()
    assert (first.text, first.tokens) == ("go ", 0)
    gatherer.add("ILL", 2)
    second = gatherer.take()
    assert (second.text, second.tokens, second.token_ids) == ("STILL", 2, (1, 2))


def test_after_a_stop_sequence_nothing_is_added() -> None:
    gatherer = TextGatherer(["."])
    gatherer.add("one. two")
    gatherer.add(" three")
    assert gatherer.rest().text == "one"


def test_ids_are_given_only_if_the_engine_names_all_of_them() -> None:
    gatherer = TextGatherer()
    gatherer.add("a", 1)
    gatherer.add("b")
    assert gatherer.take().token_ids is None
