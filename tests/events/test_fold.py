"""The laws of the fold: what every reader makes of the same log."""

from dataclasses import replace
from functools import reduce
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.answers import (
    EMPTY,
    Chunk,
    Claim,
    ClaimId,
    End,
    Fold,
    TokenRecord,
    ended_event,
    entries,
    entries_of_ended,
    fold,
)
from events.codec import decode_data, encode_data
from events.conversations import AnswerEnded, EndKind, Seam, TokenLogprob, Usage
from events.ids import AnswerId, ConversationId

C = ConversationId(UUID(int=1))
A = AnswerId(UUID(int=2))
CLAIMS = [ClaimId(epoch, UUID(int=100 + n)) for epoch, n in ((1, 1), (1, 2), (2, 0))]

texts = st.text(max_size=4)
claim_ids = st.sampled_from(CLAIMS)
claims = st.builds(lambda claim, model: Claim(A, claim, "w", model), claim_ids, texts)
likelihoods = st.floats(-100, 0)
logprobs = st.lists(
    st.builds(
        TokenLogprob,
        token=texts,
        logprob=likelihoods,
        top=st.lists(st.tuples(texts, likelihoods), max_size=2).map(tuple),
    ),
    max_size=2,
).map(tuple)
chunks = st.builds(
    lambda claim, index, text, tokens, seam, logprobs: Chunk(
        A, claim, index, text, tokens, seam, logprobs=logprobs
    ),
    claim_ids,
    st.integers(0, 3),
    texts,
    st.integers(0, 3),
    st.booleans(),
    logprobs,
)
ends = st.builds(
    lambda claim, index, kind, text, tokens, logprobs: End(
        A, claim, index, kind, "stop", None, text, tokens, Usage(completion_tokens=tokens), logprobs
    ),
    claim_ids,
    st.integers(0, 3),
    st.sampled_from(EndKind),
    texts,
    st.integers(0, 3),
    logprobs,
)
wild = st.lists(st.one_of(claims, chunks, ends), max_size=30)


@st.composite
def spoken(draw: st.DrawFn) -> list[TokenRecord]:
    """A log in which much counts: each claimant goes on where the fold is, amid wild records."""
    log: list[TokenRecord] = []
    for claim in sorted(draw(st.lists(claim_ids, min_size=1, max_size=3, unique=True))):
        log.append(Claim(A, claim, "w", draw(texts)))
        for _ in range(draw(st.integers(0, 4))):
            at = whole(log)
            log.append(Chunk(A, claim, at.next_index, draw(texts), 1, draw(st.booleans())))
            log += draw(st.lists(st.one_of(chunks, claims), max_size=1))
    at = whole(log)
    if at.claim is not None and draw(st.booleans()):
        log.append(
            End(A, at.claim, at.next_index, EndKind.FINISH, "stop", None, draw(texts), 1, Usage())
        )
    return log + draw(wild)


logs = st.one_of(wild, spoken())


def whole(log: list[TokenRecord]) -> Fold:
    return reduce(fold, log, EMPTY)


@given(logs)
def test_what_was_shown_is_never_taken_back(log: list[TokenRecord]) -> None:
    state = EMPTY
    for record in log:
        after = fold(state, record)
        assert entries(after)[: len(entries(state))] == entries(state)
        assert after.text.startswith(state.text)
        state = after


@given(logs)
def test_indexes_are_dense_and_only_the_last_entry_may_be_the_end(log: list[TokenRecord]) -> None:
    said = entries(whole(log))
    assert [entry.index for entry in said] == list(range(len(said)))
    assert all(entry.end is None for entry in said[:-1])


@given(logs)
def test_a_record_counts_once(log: list[TokenRecord]) -> None:
    state = EMPTY
    for record in log:
        state = fold(state, record)
        assert fold(state, record) is state


@given(logs, st.data())
def test_what_has_counted_may_come_again_at_any_later_time(
    log: list[TokenRecord], data: st.DataObject
) -> None:
    """A reader that goes back, or a record that was sent twice."""
    counted = [n for n, one in enumerate(log) if whole(log[: n + 1]) != whole(log[:n])]
    if not counted:
        return
    first = data.draw(st.sampled_from(counted))
    later = data.draw(st.integers(first + 1, len(log)))
    assert whole([*log[:later], log[first], *log[later:]]) == whole(log)


@given(logs, st.data())
def test_what_a_zombie_writes_changes_nothing(log: list[TokenRecord], data: st.DataObject) -> None:
    """A former claimant, that sleeps or was replaced, may write whatever it likes, wherever."""
    at = data.draw(st.integers(0, len(log)))
    state = whole(log[:at])
    if state.claim is None:
        return
    former = [claim for claim in CLAIMS if claim < state.claim]
    if not former:
        return
    zombie = data.draw(st.sampled_from(former))
    record = replace(data.draw(st.one_of(claims, chunks, ends)), claim=zombie)
    assert fold(state, record) is state
    assert whole([*log[:at], record, *log[at:]]) == whole(log)


@given(logs, st.one_of(claims, chunks, ends))
def test_after_the_end_nothing_counts(log: list[TokenRecord], record: TokenRecord) -> None:
    state = whole(log)
    if state.end is not None:
        assert fold(state, record) is state


@given(logs, st.one_of(chunks, ends))
def test_nobody_speaks_without_a_claim(log: list[TokenRecord], record: Chunk | End) -> None:
    assert fold(EMPTY, record) is EMPTY
    state = whole([one for one in log if not isinstance(one, Claim)])
    assert state is EMPTY


@given(logs)
def test_the_recorded_end_gives_the_same_entries_as_the_fold(log: list[TokenRecord]) -> None:
    state = whole(log)
    if state.end is None:
        with pytest.raises(ValueError, match="has an end"):
            ended_event(C, state)
        return
    ended = ended_event(C, state)
    stored = decode_data(ended.TYPE, ended.VERSION, orjson.loads(encode_data(ended)))
    assert isinstance(stored, AnswerEnded)
    assert entries_of_ended(stored) == entries(state)
    assert stored.text == state.text
    assert sum(stored.chunk_lengths) == len(stored.text)


@given(logs)
def test_sizes_are_those_of_what_counted(log: list[TokenRecord]) -> None:
    state = EMPTY
    tokens = 0
    for record in log:
        after = fold(state, record)
        if after is not state and not isinstance(record, Claim):
            tokens += record.tokens
        state = after
    assert state.tokens == tokens
    assert state.text_bytes == len(state.text.encode())


@given(logs)
def test_claims_in_a_row_without_a_chunk_are_counted(log: list[TokenRecord]) -> None:
    state = EMPTY
    row = 0
    for record in log:
        after = fold(state, record)
        if after is not state and not isinstance(record, End):
            row = row + 1 if isinstance(record, Claim) else 0
        state = after
        assert state.claims_without_progress == row


def said(claim: ClaimId, index: int, text: str, *, seam: bool = False) -> Chunk:
    return Chunk(A, claim, index, text, 1, seam)


def ended(claim: ClaimId, index: int, text: str = "") -> End:
    return End(A, claim, index, EndKind.FINISH, "stop", None, text, 0, Usage())


def test_a_takeover_after_the_first_chunk_is_a_seam() -> None:
    first, second, _ = CLAIMS
    state = whole(
        [
            Claim(A, first, "w1", "small"),
            said(first, 0, "A tha"),
            Claim(A, second, "w2", "large"),
            said(first, 1, "too late"),
            said(second, 1, "lweg"),
            ended(second, 2, "."),
        ]
    )
    assert state.text == "A thalweg."
    assert state.seams == (Seam(index=1, model="large"),)


def test_a_takeover_before_the_first_chunk_is_no_seam() -> None:
    first, second, _ = CLAIMS
    state = whole([Claim(A, first, "w1", "m"), Claim(A, second, "w2", "m"), said(second, 0, "A")])
    assert state.seams == ()


def test_a_further_call_under_the_same_claim_is_a_seam() -> None:
    first = CLAIMS[0]
    state = whole(
        [Claim(A, first, "w", "m"), said(first, 0, "A "), said(first, 1, "line", seam=True)]
    )
    assert state.seams == (Seam(index=1, model="m"),)


def test_a_successor_that_only_ends_an_answer_leaves_no_seam() -> None:
    first, second, _ = CLAIMS
    state = whole(
        [
            Claim(A, first, "w1", "m"),
            said(first, 0, "All."),
            Claim(A, second, "w2", "m"),
            ended(second, 1),
        ]
    )
    assert state.seams == ()
    assert state.end is not None


def test_claims_are_compared_by_epoch_first() -> None:
    low, high = ClaimId(1, UUID(int=9)), ClaimId(2, UUID(int=1))
    assert whole([Claim(A, low, "w", "m"), Claim(A, high, "w", "m")]).claim == high
    assert whole([Claim(A, high, "w", "m"), Claim(A, low, "w", "m")]).claim == high
