"""The protocol with one rule taken out, for every rule: what each test of the rules patches in."""

from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from events.answers import Chunk, Claim, ClaimId, End, Fold, TokenRecord, fold
from processors.answers import protocol
from processors.answers.protocol_words import (
    Acknowledge,
    Held,
    Load,
    Loaded,
    LoadFailed,
    Phase,
    Send,
    Step,
)

# The fold ----------------------------------------------------------------------------------------


def every_claim_counts(state: Fold, record: TokenRecord) -> Fold:
    if isinstance(record, Claim) and state.end is None:
        return fold(replace(state, claim=None), record)
    return fold(state, record)


def a_claim_counts_after_the_end(state: Fold, record: TokenRecord) -> Fold:
    if isinstance(record, Claim) and state.end is not None:
        return fold(replace(state, end=None), record)
    return fold(state, record)


def a_second_end_counts(state: Fold, record: TokenRecord) -> Fold:
    if isinstance(record, End) and state.end is not None:
        return fold(replace(state, end=None, claim=record.claim), record)
    return fold(state, record)


def chunks_of_old_claims_count(state: Fold, record: TokenRecord) -> Fold:
    return _whatever_the_claim(state, record) if isinstance(record, Chunk) else fold(state, record)


def ends_of_old_claims_count(state: Fold, record: TokenRecord) -> Fold:
    return _whatever_the_claim(state, record) if isinstance(record, End) else fold(state, record)


def _whatever_the_claim(state: Fold, record: TokenRecord) -> Fold:
    before = replace(state, claim=record.claim)
    after = fold(before, record)
    return state if after is before else replace(after, claim=state.claim)


def indexes_may_leave_gaps(state: Fold, record: TokenRecord) -> Fold:
    if not isinstance(record, Claim) and record.index > state.next_index:
        return fold(state, replace(record, index=state.next_index))
    return fold(state, record)


def indexes_may_repeat(state: Fold, record: TokenRecord) -> Fold:
    if isinstance(record, Chunk) and record.index < state.next_index:
        return fold(state, replace(record, index=state.next_index))
    return fold(state, record)


# The machine: each function stands in for one of protocol.py -------------------------------------

_claim = protocol._claim
_call_again = protocol._call_again
_without_engine = protocol._without_engine
_loaded = protocol._loaded
_generation_changed = protocol._generation_changed
_read = protocol._read


def speaks_before_the_own_claim_is_read(state: Held, epoch: int, fresh: UUID) -> Step:
    state, outputs = _claim(state, epoch, fresh)
    said = state.fold
    state = replace(
        state,
        phase=Phase.SPEAKING,
        next_index=said.next_index,
        said_tokens=said.tokens,
        said_bytes=said.text_bytes,
    )
    if not state.calling:
        state, speak = protocol._call(state, further=False)
        outputs += speak
    return state, outputs


def early_words_stand_whatever_came_between(state: Held) -> bool:
    return state.calling


def a_failed_produce_is_ignored(state: Held, claim: ClaimId, fresh: UUID) -> Step:
    return state, ()


def keeps_what_is_unsent_after_a_failed_produce(state: Held, claim: ClaimId, fresh: UUID) -> Step:
    if state.phase is not Phase.SPEAKING:
        return protocol._claim_over_own(state, fresh)
    own = ClaimId(claim.epoch, fresh)
    record = Claim(state.answer, own, state.worker, state.model)
    return replace(state, phase=Phase.CLAIMING, claim=own), (Send(record),)


def goes_on_with_another_engine_under_the_same_claim(state: Held, fresh: UUID) -> Step:
    return protocol._call(state, further=False)


def a_further_call_does_not_wait(state: Held, put: Any) -> Step:
    state, outputs = _call_again(state, put)
    if not state.more:
        return state, outputs
    state, speak = protocol._call(state, further=True)
    return state, (*outputs, *speak)


def goes_on_without_the_partition(state: Held, generation: int, owned: bool, fresh: UUID) -> Step:
    return _generation_changed(state, generation, True, fresh)


def claims_again_when_the_partition_comes_back(
    state: Held, generation: int, owned: bool, fresh: UUID
) -> Step:
    state, outputs = _generation_changed(state, generation, owned, fresh)
    if owned and state.phase is Phase.SPEAKING:
        return protocol._claim_over_own(state, fresh)
    return state, outputs


def claims_again_with_its_own_epoch(state: Held, fresh: UUID) -> Step:
    if state.phase is Phase.WAITING:
        return _claim(state, state.generation, fresh)
    return state, (Load(),)


def claims_again_without_waiting(state: Held) -> Step:
    assert state.fold.claim is not None
    own = state.claim.id.int + 1 if state.claim is not None else 9
    return _claim(state, state.fold.claim.epoch + 1, UUID(int=own))


def tries_for_ever(state: Held, claims: int) -> Any:
    return _without_engine(state, 0)


def a_greater_claim_is_ignored(state: Held, fresh: UUID) -> Step:
    return state, ()


def own_gaps_are_ignored(state: Held, record: TokenRecord, fresh: UUID) -> Step:
    after, outputs = _read(state, record, fresh)
    if isinstance(record, Claim) or record.claim != state.claim:
        return after, outputs
    return (state, ()) if record.index > state.fold.next_index else (after, outputs)


def a_cancel_is_an_end(state: Held) -> Step:
    return protocol._done(state, Acknowledge())


def does_not_ask_the_store(state: Held, put: Loaded | LoadFailed, fresh: UUID) -> Step:
    return _loaded(state, replace(put, ended=False) if isinstance(put, Loaded) else put, fresh)


def begins_before_it_has_folded(*arguments: Any, **named: Any) -> Step:
    said = named["said"]
    return _hold(*arguments, **{**named, "said": replace(said, end=None)})


_hold = protocol.hold


@dataclass(frozen=True)
class Rule:
    """One rule: what takes its place, and a setting in which it is missed."""

    name: str
    missed: str
    """What the exploration finds without it."""
    patch: dict[str, Any] = field(default_factory=dict)
    fold: Any = None
    setting: dict[str, Any] = field(default_factory=dict)


SPLICED = "spliced"
STUCK = "nothing moves any more"
DUEL = "duel|without end"


def _faults(*kinds: str, faults: int = 1, **more: Any) -> dict[str, Any]:
    return {"kinds": frozenset(kinds), "faults": faults, **more}


RULES = [
    Rule("a claim counts only if it is greater", f"{STUCK}|{SPLICED}", fold=every_claim_counts,
         setting=_faults("move", "crash")),
    Rule("no claim counts after the end", "follows the end|taken back",
         fold=a_claim_counts_after_the_end, setting=_faults("move")),
    Rule("no second end counts", "taken back", fold=a_second_end_counts,
         setting=_faults("move", "cancel", faults=2)),
    Rule("a chunk counts only under the current claim", SPLICED, fold=chunks_of_old_claims_count,
         setting=_faults("move")),
    Rule("an end counts only under the current claim", SPLICED, fold=ends_of_old_claims_count,
         setting=_faults("move")),
    Rule("no index may be left out", SPLICED, fold=indexes_may_leave_gaps,
         setting=_faults("produce", "move")),
    Rule("no index counts twice", SPLICED, fold=indexes_may_repeat, setting=_faults("repeat")),
    Rule("speak only after the own claim was read", SPLICED,
         patch={"_claim": speaks_before_the_own_claim_is_read}, setting=_faults("move")),
    Rule("what was said early stands only if nothing came between", SPLICED,
         patch={"_early_words_stand": early_words_stand_whatever_came_between},
         setting=_faults("move")),
    Rule("acknowledge what was read back, not what was produced", "acknowledged",
         setting=_faults("move", acknowledge_on_delivery=True, prune=False)),
    Rule("claim again after a failed produce", STUCK,
         patch={"_produce_failed": a_failed_produce_is_ignored}, setting=_faults("produce")),
    Rule("drop what is unsent after a failed produce", SPLICED,
         patch={"_produce_failed": keeps_what_is_unsent_after_a_failed_produce},
         setting=_faults("produce")),
    Rule("claim again for another engine after the first chunk", f"{SPLICED}|{STUCK}",
         patch={"_claim_over_own": goes_on_with_another_engine_under_the_same_claim},
         setting=_faults("engine")),
    Rule("a further call waits until everything sent was read back", f"{SPLICED}|{STUCK}",
         patch={"_call_again": a_further_call_does_not_wait},
         setting=_faults(faults=0, call_tokens_max=1)),
    Rule("without the partition a worker stops", "without the partition",
         patch={"_generation_changed": goes_on_without_the_partition},
         setting=_faults("move", "wake", faults=2)),
    Rule("a partition that comes back changes nothing", "more than is needed",
         patch={"_generation_changed": claims_again_when_the_partition_comes_back},
         setting=_faults("give back", claims_max=1)),
    Rule("a worker with the partition claims again over a greater claim", STUCK,
         patch={"_superseded": a_greater_claim_is_ignored}, setting=_faults("reset")),
    Rule("after the wait claim with the current epoch + 1", DUEL,
         patch={"_timer_fired": claims_again_with_its_own_epoch},
         setting=_faults("reset", prune=False, chunks=1, log_records_max=9)),
    Rule("wait before claiming over another", DUEL,
         patch={"_wait": claims_again_without_waiting},
         setting=_faults("reset", claims_without_progress_max=4)),
    Rule("a poisonous request ends", DUEL, patch={"_without_engine": tries_for_ever},
         setting=_faults(faults=0, poisonous=True, claims_without_progress_max=2,
                         log_records_max=8, chunks=1)),
    Rule("claim again when an own record does not count", STUCK,
         patch={"_read": own_gaps_are_ignored}, setting=_faults("lose")),
    Rule("a cancel is a wish, not an end", "acknowledged", patch={"_stop": a_cancel_is_an_end},
         setting=_faults("cancel")),
    Rule("ask the event store before claiming", "the end is recorded",
         patch={"_loaded": does_not_ask_the_store}, setting=_faults("redeliver", prune=False)),
    Rule("fold to the log's end before beginning", "known to have ended",
         patch={"hold": begins_before_it_has_folded}, setting=_faults("move")),
    Rule("the fold begins before the first claim", "differs from the log's",
         setting=_faults("move", fold_from_end=True)),
]  # fmt: skip
