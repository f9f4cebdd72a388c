"""The worker's state machine: how answers end."""

from uuid import UUID

import pytest

from events.answers import ClaimId
from events.conversations import EndKind
from processors.answers.protocol import hold, room
from processors.answers.protocol_words import (
    Acknowledge,
    Bounds,
    CancelAsked,
    EngineFailed,
    Expired,
    Failure,
    Forget,
    Hush,
    Input,
    Loaded,
    Said,
    Send,
)
from tests.processors.answers.given_worker import (
    ANSWER,
    BEGUN,
    Worker,
    a_claimant,
    a_speaker,
    claim_of,
    folded,
    the_end,
)


def test_a_text_that_is_too_long_is_cut_between_characters() -> None:
    worker = a_speaker()
    worker.put(Said(1, "x" * 17, 1))
    *_, send = worker.put(Said(1, "äöü", 1))
    assert Hush() in worker.outputs
    end = the_end([send])
    assert (end.kind, end.reason, end.text) == (EndKind.FINISH, "length", "ä")


@pytest.mark.parametrize(
    ("put", "kind", "reason"),
    [(CancelAsked(), EndKind.CANCELLED, "cancelled"), (Expired(), EndKind.FAIL, "deadline")],
)
def test_a_speaker_that_is_stopped_ends_after_what_it_sent(
    put: Input, kind: EndKind, reason: str
) -> None:
    worker = a_speaker()
    worker.put(Said(1, "a", 1))
    outputs = worker.put(put)
    assert outputs[0] == Hush()
    end = the_end(outputs)
    assert (end.index, end.kind, end.reason) == (1, kind, reason)
    assert worker.put(put) == ()


@pytest.mark.parametrize(
    ("loaded", "reason"),
    [
        (Loaded(ended=False, cancelled=True, expired=False, tokens_max=10), "cancelled"),
        (Loaded(ended=False, cancelled=False, expired=True, tokens_max=10), "deadline"),
        (Loaded(ended=False, cancelled=False, expired=False, tokens_max=1), "length"),
    ],
)
def test_what_needs_no_engine_ends_by_a_claim_and_an_end(loaded: Loaded, reason: str) -> None:
    worker = a_claimant(BEGUN, loaded)
    assert [type(out) for out in worker.outputs] == [Send]
    end = the_end(worker.reads_own())
    assert (end.index, end.reason) == (1, reason)


def test_a_cancel_while_the_claim_is_under_way_closes_the_engine_and_ends_after_it() -> None:
    worker = a_claimant()
    worker.put(Said(1, "a", 1))
    assert worker.put(CancelAsked()) == (Hush(),)
    assert the_end(worker.reads_own()).kind is EndKind.CANCELLED


def test_who_claims_after_too_many_claims_without_a_word_ends_it() -> None:
    claims = [claim_of(ClaimId(1, UUID(int=n))) for n in (1, 2)]
    worker = a_claimant(folded(*claims))
    assert [type(out) for out in worker.outputs] == [Send]
    assert the_end(worker.reads_own()).reason == "poisonous"


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Failure.OVERLOADED, "overloaded"),
        (Failure.REFUSED, "refused"),
        (Failure.FAILED, "engine"),
        (Failure.CANNOT_CONTINUE, "cannot_continue"),
    ],
)
def test_a_failure_with_nothing_said_ends_the_answer(failure: Failure, reason: str) -> None:
    worker = a_speaker(BEGUN)
    end = the_end(worker.put(EngineFailed(1, failure, "Because.")))
    assert (end.index, end.kind, end.reason, end.error) == (1, EndKind.FAIL, reason, "Because.")
    assert worker.reads_own() == (Acknowledge(), Forget())


def test_an_early_failure_waits_for_the_claim_too() -> None:
    worker = a_claimant()
    assert worker.put(EngineFailed(1, Failure.REFUSED, "Too long.")) == ()
    assert the_end(worker.reads_own()).error == "Too long."


def test_a_speaker_does_not_run_away_from_a_slow_log() -> None:
    bounds = Bounds(2, 10_000, unread_chunks_max=3)
    worker = Worker(*hold(ANSWER, worker="w", model="m", generation=5, bounds=bounds))
    worker.put(Loaded(ended=False, cancelled=False, expired=False, tokens_max=99))
    worker.reads_own()
    for _ in range(3):
        assert room(worker.state)
        worker.put(Said(1, "a", 1))
    assert not room(worker.state)
    worker.reads_own()
    assert room(worker.state)
