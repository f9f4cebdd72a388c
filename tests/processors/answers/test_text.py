"""What may be shown does not depend on how the engine cuts its tokens."""

from itertools import pairwise
from uuid import UUID

import orjson
from hypothesis import given
from hypothesis import strategies as st

from events.answers import EMPTY, Chunk, Claim, ClaimId, Fold, fold
from events.conversations import TokenLogprob
from events.ids import AnswerId
from processors.answers.text import Piece, TextGatherer, fitting, logprobs_bytes_left, within

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


# Log probabilities --------------------------------------------------------------------------------


def gathered(
    tokens: list[str],
    takes: list[bool],
    stop: list[str],
    *,
    bytes_max: int,
    said: Fold = EMPTY,
    first: int = 0,
) -> list[Piece]:
    """The pieces of a call whose tokens have log probabilities: the n-th of the answer has -n, of
    which this call's first one is number `first`."""
    left = logprobs_bytes_left(said, bytes_max)
    gatherer = TextGatherer(stop, logprobs_bytes_max=left, top_logprobs=1)
    pieces = []
    for number, (token, take) in enumerate(zip(tokens, takes, strict=False), first):
        if gatherer.stopped:
            break
        gatherer.add(token, number, -float(number), [(token, -1.0), ("other", -2.0)])
        if take:
            pieces.append(gatherer.take())
    return [*pieces, gatherer.rest()]


@given(TEXTS, STOPS, st.lists(st.integers(0, 30)), st.lists(st.booleans(), min_size=40))
def test_a_log_probability_comes_with_the_end_of_its_token(
    text: str, stop: list[str], cuts: list[int], takes: list[bool]
) -> None:
    tokens = split(text, cuts)
    shown = ""
    said = []
    for piece in gathered(tokens, takes, stop, bytes_max=100_000):
        shown += piece.text
        said += piece.logprobs
        assert "".join(one.token for one in said) == shown[: sum(len(one.token) for one in said)]
    whole = cut_at_first_stop(text, stop) == text
    assert [one.token for one in said] == tokens[: len(said)]
    assert [one.logprob for one in said] == [-float(number) for number in range(len(said))]
    assert all(len(one.top) == 1 for one in said)
    if whole:
        assert len(said) == len([token for token in tokens if token])


@given(st.lists(st.text(ALPHABET, min_size=1, max_size=3), max_size=12), st.integers(0, 700))
def test_log_probabilities_fit_their_bound_in_the_recorded_answer(
    tokens: list[str], bytes_max: int
) -> None:
    pieces = gathered(tokens, [True] * 40, [], bytes_max=bytes_max)
    recorded = [piece.logprobs for piece in pieces if piece.text]
    some = [each for each in recorded if each]  # AnswerEnded has none for the chunks after these
    as_json = orjson.dumps([[one.model_dump() for one in each] for each in some])
    if some:
        assert len(as_json) - len("[]") <= bytes_max
    kept = [len(each) for each in recorded]
    assert kept == sorted(kept, reverse=True)  # the first ones, and none after one that is missing


@given(
    st.lists(st.text(ALPHABET, min_size=1, max_size=3), min_size=2, max_size=12),
    st.integers(0, 700),
    st.data(),
)
def test_another_worker_goes_on_with_what_is_left_of_the_bound(
    tokens: list[str], bytes_max: int, data: st.DataObject
) -> None:
    """Over a seam the answer has the same log probabilities as if one call had said it."""
    takes = [True] * 40
    alone = gathered(tokens, takes, [], bytes_max=bytes_max)
    until = data.draw(st.integers(1, len(tokens) - 1))
    first = gathered(tokens[:until], takes, [], bytes_max=bytes_max)
    said = EMPTY
    claim = ClaimId(1, UUID(int=1))
    answer = AnswerId(UUID(int=2))
    said = fold(said, Claim(answer, claim, "worker", "model"))
    for index, piece in enumerate(one for one in first if one.text):
        chunk = Chunk(answer, claim, index, piece.text, piece.tokens, logprobs=piece.logprobs)
        said = fold(said, chunk)
    rest = gathered(tokens[until:], takes, [], bytes_max=bytes_max, said=said, first=until)
    together = [len(one.logprobs) for one in (*first, *rest) if one.text]
    assert together == [len(one.logprobs) for one in alone if one.text]


def test_what_is_no_number_is_left_out() -> None:
    gatherer = TextGatherer(logprobs_bytes_max=1_000, top_logprobs=2)
    gatherer.add("a", 1, float("-inf"))
    gatherer.add("b", 2, -1.0, [("b", -1.0), ("c", float("-inf"))])
    assert gatherer.take().logprobs == (TokenLogprob(token="b", logprob=-1.0, top=(("b", -1.0),)),)


def test_of_a_text_that_is_cut_only_whole_tokens_have_log_probabilities() -> None:
    logprobs = tuple(TokenLogprob(token=one, logprob=-1.0) for one in ("ab", "cd", "e"))
    assert within("abc", logprobs) == logprobs[:1]
    assert within("abcde", logprobs) == logprobs
    assert fitting("aé", 2) == "a"
