"""The worker's state machine, one rule at a time. tests/protocol explores all of it together."""

from uuid import UUID

import pytest

from events.answers import Chunk, Claim, ClaimId, End
from events.conversations import EndKind, Usage
from processors.answers.engine import FinishReason
from processors.answers.protocol import room
from processors.answers.protocol_words import (
    Acknowledge,
    CancelAsked,
    EngineFailed,
    EngineFinished,
    Failure,
    Forget,
    GenerationChanged,
    Hush,
    Load,
    Loaded,
    LoadFailed,
    Phase,
    ProduceFailed,
    Read,
    Said,
    Send,
    Speak,
    StartTimer,
    StopTimer,
    TimerFired,
    Wait,
)
from tests.processors.answers.given_worker import (
    ANSWER,
    BEGUN,
    EARLIER,
    GENERATION,
    OTHER,
    SAME_EPOCH,
    a_claimant,
    a_speaker,
    a_worker,
    claim_of,
    end_of,
    folded,
    the_end,
    the_sent,
)

# Claiming ----------------------------------------------------------------------------------------


def test_an_answer_that_has_ended_is_acknowledged_without_a_claim() -> None:
    worker = a_worker(folded(claim_of(EARLIER), end_of(EARLIER, 0)))
    assert worker.outputs[-2:] == (Acknowledge(), Forget())


def test_an_end_in_the_event_store_is_acknowledged_without_a_claim() -> None:
    worker = a_worker()
    assert worker.outputs == (Load(),)
    outputs = worker.put(Loaded(ended=True, cancelled=False, expired=False, tokens_max=10))
    assert outputs[-2:] == (Acknowledge(), Forget())


def test_with_nothing_said_the_engine_starts_with_the_claim() -> None:
    send, speak = a_claimant().outputs
    assert send == Send(Claim(ANSWER, ClaimId(GENERATION, UUID(int=100)), "w", "m"))
    assert speak == Speak(call=1, said="", tokens_max=10)


def test_early_words_are_held_back_until_the_own_claim_is_read() -> None:
    worker = a_claimant()
    assert worker.put(Said(1, "a", 1), Said(1, "b", 1)) == ()
    assert not room(worker.state)
    chunks = [out.record for out in worker.reads_own() if isinstance(out, Send)]
    assert [(c.index, c.text) for c in chunks if isinstance(c, Chunk)] == [(0, "a"), (1, "b")]


def test_early_words_are_dropped_if_a_late_chunk_came_before_the_claim() -> None:
    worker = a_claimant(folded(claim_of(EARLIER)))
    worker.put(Said(1, "a", 1), Read(Chunk(ANSWER, EARLIER, 0, "x", 1)))
    assert worker.reads_own() == (Hush(), Speak(2, "x", 9))


def test_a_begun_answer_is_continued_only_when_the_claim_was_read() -> None:
    worker = a_claimant(BEGUN)
    assert [type(out) for out in worker.outputs] == [Send]
    assert worker.reads_own() == (Speak(1, "Once ", 9),)
    assert the_sent(worker.put(Said(1, "upon", 1))) == Chunk(ANSWER, worker.claim, 1, "upon", 1)


def test_a_claim_that_could_not_count_is_not_sent() -> None:
    worker = a_claimant(folded(claim_of(OTHER)))
    assert worker.outputs == (StartTimer(Wait.CLAIM_AGAIN),)


def test_an_event_store_that_is_away_is_asked_again() -> None:
    worker = a_worker()
    assert worker.put(LoadFailed()) == (StartTimer(Wait.LOAD_AGAIN),)
    assert worker.put(TimerFired()) == (Load(),)


# Another's claim ---------------------------------------------------------------------------------


@pytest.mark.parametrize("greater", [OTHER, SAME_EPOCH])
def test_a_greater_claim_silences_and_is_claimed_over_after_a_wait(greater: ClaimId) -> None:
    worker = a_speaker()
    assert worker.put(Read(claim_of(greater))) == (Hush(), StartTimer(Wait.CLAIM_AGAIN))
    worker.put(TimerFired())
    assert worker.claim.epoch == greater.epoch + 1


def test_a_greater_claim_of_an_older_generation_is_claimed_over_at_once() -> None:
    worker = a_speaker()
    worker.put(GenerationChanged(OTHER.epoch + 1, owned=True))
    record = the_sent(worker.put(Read(claim_of(OTHER))))
    assert isinstance(record, Claim)
    assert record.claim.epoch == OTHER.epoch + 1


def test_who_waits_claims_at_once_when_its_generation_is_higher() -> None:
    worker = a_speaker()
    worker.put(Read(claim_of(OTHER)))
    stop, send, *_ = worker.put(GenerationChanged(OTHER.epoch + 1, owned=True))
    assert stop == StopTimer()
    assert isinstance(send, Send)


def test_a_lesser_claim_changes_nothing() -> None:
    worker = a_speaker()
    assert worker.put(Read(claim_of(EARLIER))) == ()
    assert worker.state.phase is Phase.SPEAKING


def test_a_partition_that_comes_back_changes_nothing() -> None:
    worker = a_speaker()
    assert worker.put(GenerationChanged(GENERATION + 1, owned=True)) == ()


def test_without_the_partition_a_worker_stops_and_acknowledges_nothing() -> None:
    worker = a_speaker()
    assert worker.put(GenerationChanged(GENERATION + 1, owned=False)) == (Hush(), Forget())
    assert worker.put(Said(1, "a", 1), TimerFired(), CancelAsked()) == ()


# Speaking ----------------------------------------------------------------------------------------


def test_chunks_do_not_wait_for_one_another() -> None:
    worker = a_speaker()
    worker.put(Said(1, "a", 1), Said(1, "b", 1), EngineFinished(1, FinishReason.STOP, "c", 1, 7))
    assert worker.sent[:2] == [
        Chunk(ANSWER, worker.claim, 0, "a", 1),
        Chunk(ANSWER, worker.claim, 1, "b", 1),
    ]
    assert worker.sent[2] == End(
        ANSWER,
        worker.claim,
        2,
        EndKind.FINISH,
        "stop",
        None,
        "c",
        1,
        Usage(prompt_tokens=7, completion_tokens=3),
    )


def test_a_request_is_acknowledged_when_its_end_was_read_back() -> None:
    worker = a_speaker()
    assert Acknowledge() not in worker.put(EngineFinished(1, FinishReason.STOP))
    assert worker.reads_own() == (Acknowledge(), Forget())


def test_a_request_is_acknowledged_by_anothers_end() -> None:
    worker = a_speaker()
    worker.put(Read(claim_of(OTHER)))
    assert worker.put(Read(end_of(OTHER, 0))) == (StopTimer(), Acknowledge(), Forget())


def test_words_of_an_older_call_are_ignored() -> None:
    worker = a_speaker(BEGUN)
    worker.put(Said(1, "a", 1), EngineFailed(1, Failure.FAILED))
    worker.reads_own()
    assert worker.put(Said(1, "b", 1)) == ()


def test_after_a_failed_produce_it_claims_again_and_goes_on_from_the_fold() -> None:
    worker = a_speaker()
    first = worker.claim
    worker.put(Said(1, "a", 1), Said(1, "b", 1))
    landed, _ = worker.sent
    worker.put(Read(landed))
    worker.sent.clear()
    outputs = worker.put(ProduceFailed(first))
    assert outputs[0] == Hush()
    assert worker.claim > first
    assert worker.reads_own() == (Speak(2, "a", 9),)
    assert worker.put(ProduceFailed(first)) == ()


def test_a_claim_that_could_not_be_produced_is_tried_again_after_a_wait() -> None:
    worker = a_claimant()
    outputs = worker.put(ProduceFailed(worker.claim))
    assert outputs == (Hush(), StartTimer(Wait.CLAIM_AGAIN))


def test_an_own_record_that_did_not_count_makes_it_claim_again() -> None:
    worker = a_speaker()
    worker.put(Said(1, "a", 1), EngineFinished(1, FinishReason.STOP))
    first = worker.claim
    worker.put(Read(worker.sent[1]))
    assert worker.claim > first


def test_an_engine_that_breaks_in_the_middle_is_followed_by_another_under_a_new_claim() -> None:
    worker = a_speaker()
    first = worker.claim
    worker.put(Said(1, "a", 1), EngineFailed(1, Failure.FAILED))
    assert worker.claim > first
    assert worker.reads_own() == (Speak(2, "a", 9),)


def test_a_limit_of_the_engine_is_followed_by_a_further_call_with_a_seam() -> None:
    worker = a_speaker()
    worker.put(Said(1, "a", 4), EngineFinished(1, FinishReason.LENGTH, "b", 1, 7))
    assert worker.reads_own() == (Speak(2, "ab", 5),)
    assert the_sent(worker.put(Said(2, "c", 1))) == Chunk(
        ANSWER, worker.claim, 2, "c", 1, seam=True
    )
    end = the_end(worker.put(EngineFinished(2, FinishReason.LENGTH, "d", 4, 12)))
    assert (end.reason, end.usage) == ("length", Usage(prompt_tokens=7, completion_tokens=10))


def test_an_end_with_text_after_a_seam_leaves_its_text_to_a_chunk() -> None:
    worker = a_speaker()
    worker.put(Said(1, "a", 1), EngineFinished(1, FinishReason.LENGTH))
    worker.reads_own()
    worker.put(EngineFinished(2, FinishReason.STOP, "b", 1))
    chunk, end = worker.sent
    assert chunk == Chunk(ANSWER, worker.claim, 1, "b", 1, seam=True)
    assert isinstance(end, End)
    assert (end.index, end.text, end.usage.completion_tokens) == (2, "", 2)


@pytest.mark.parametrize("full", [True, False])
def test_a_call_that_cannot_go_on_ends_with_length(full: bool) -> None:
    worker = a_speaker()
    text = "a" if full else ""
    finished = EngineFinished(1, FinishReason.LENGTH, text, len(text), context_full=full)
    assert the_end(worker.put(finished)).reason == "length"
