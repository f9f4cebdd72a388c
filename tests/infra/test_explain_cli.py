"""The words of `thalweg explain`."""

from uuid import uuid4

import pytest

from events.decisions import (
    BreakerChanged,
    CallEnded,
    Candidate,
    Decision,
    EngineAppeared,
    EngineGone,
    WasDispatched,
    WasGivenUp,
    WasQueued,
)
from infra.cli.decision_words import words_of

ANSWER, TENANT = uuid4(), uuid4()
QUIET = Candidate("e1", 0.25, 9, None, None, None, None)
TELLS = Candidate("e2", 0.5, 3, 4, 12, None, 0.25)


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (
            WasQueued(1, ANSWER, "flex", "m", 120, 30.0, True, 7),
            "queued, where 7 others waited (band flex, 120 tokens, 30.0 s left, a part of it was "
            "shown)",
        ),
        (
            WasDispatched(1, ANSWER, "e1", "less_loaded", 0.02, (QUIET, TELLS)),
            "sent to e1 after 20 ms: the less loaded of two (e1 25% full, 9 calls of ours, nothing "
            "lately from itself; e2 50% full, 3 calls of ours, 4 queued, 12 running by itself "
            "250 ms before)",
        ),
        (
            WasQueued(1, ANSWER, "flex", "m", 120, 30.0, False, 7, TENANT),
            f"queued for the tenant {TENANT}, where 7 others waited (band flex, 120 tokens, "
            "30.0 s left)",
        ),
        (
            WasDispatched(1, ANSWER, "e1", "only", 0.02, (QUIET,), 1, 0, "default", 4_096),
            "sent to e1 after 20 ms, as default, its tenant's counter at 4096 tokens: no other had "
            "room (e1 25% full, 9 calls of ours, nothing lately from itself)",
        ),
        (
            WasDispatched(1, ANSWER, "e1", "only", 0.02, (QUIET,), 2, 7, "begun", 0),
            "attempt 2, continued after 7 tokens: sent to e1 after 20 ms, as begun, its tenant's "
            "counter at 0 tokens: no other had room (e1 25% full, 9 calls of ours, nothing lately "
            "from itself)",
        ),
        (
            WasDispatched(1, ANSWER, "e1", "prefix", 1.5, (QUIET,)),
            "sent to e1 after 1.5 s: it spoke last in this conversation and had room (e1 25% full, "
            "9 calls of ours, nothing lately from itself)",
        ),
        (
            CallEnded(1, ANSWER, "e1", "failed", 33, 2.0, "stalled"),
            "e1: failed (stalled) after 2.0 s, 33 tokens",
        ),
        (CallEnded(1, ANSWER, "e1", "a new one", 0, 0.5), "e1: a new one after 500 ms, 0 tokens"),
        (
            WasGivenUp(1, ANSWER, "deadline"),
            "given up: its deadline passed while it waited",
        ),
        (
            BreakerChanged(1, "e1", "closed", "open"),
            "the breaker of e1 went from closed to open",
        ),
        (EngineAppeared(1, "e1"), "e1 came into the fleet"),
        (EngineGone(1, "e1", 3), "e1 left the fleet, with 3 calls of ours"),
    ],
)
def test_each_decision_is_a_sentence(decision: Decision, words: str) -> None:
    assert words_of(decision) == words
