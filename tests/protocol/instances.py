"""What is explored: small enough for every check, and larger."""

from dataclasses import replace
from functools import cache

from events.answers import EMPTY, Claim, TokenRecord
from events.answers import fold as real_fold
from tests.protocol.explorer import explore
from tests.protocol.setting import BEYOND_KAFKA, Setting
from tests.protocol.workers_world import WorkersWorld

SMALL = {
    "2 chunks, no fault, one claim": Setting(faults=0, claims_max=1),
    "2 chunks, 1 fault": Setting(chunks=2, faults=1),
    "3 chunks, 1 fault": Setting(chunks=3, faults=1),
    "3 chunks in 3 calls, 1 fault but a move": Setting(
        chunks=3,
        faults=1,
        call_tokens_max=1,
        kinds=frozenset({"crash", "produce", "engine", "cancel", "give back"}),
    ),
    "1 chunk, 3 faults of one worker": Setting(
        chunks=1, faults=3, kinds=frozenset({"produce", "engine", "cancel", "expire", "repeat"})
    ),
    "2 chunks, 2 rebalances without a change, one claim": Setting(
        faults=2, kinds=frozenset({"give back"}), claims_max=1
    ),
    "2 chunks, 2 records lost by Kafka": Setting(faults=2, kinds=BEYOND_KAFKA),
    "whoever speaks dies": Setting(
        chunks=1, faults=0, poisonous=True, claims_without_progress_max=2, log_records_max=8
    ),
}

LARGE = {
    "2 chunks, 2 faults": Setting(chunks=2, faults=2),
    "3 chunks, 2 faults": Setting(chunks=3, faults=2),
    "2 chunks, 3 faults of the commonest": Setting(
        chunks=2, faults=3, kinds=frozenset({"crash", "move", "produce"})
    ),
    "2 chunks, 3 faults of one worker at a time": Setting(
        chunks=2, faults=3, kinds=frozenset({"crash", "produce", "engine", "give back"})
    ),
    "3 chunks in 3 calls, 1 fault": Setting(chunks=3, faults=1, call_tokens_max=1),
    "2 chunks, 1 fault, nothing left away": Setting(chunks=2, faults=1, prune=False),
}


@cache
def shapes(setting: Setting) -> list[tuple[TokenRecord, ...]]:
    """The logs that two workers may write, one of each shape, for readers to read.

    Readers don't look into a text or a claim; two logs in which the same kinds of records count at
    the same places are the same to them. Each has a late claim after its end: the strangest thing
    that may still come (no chunk follows it: its worker reads the end first).
    """
    world = WorkersWorld(replace(setting, prune=False))
    explored = explore(world)
    assert explored.counterexample is None, str(explored.counterexample)
    found: dict[tuple[object, ...], tuple[TokenRecord, ...]] = {}
    for log in world.written():
        late = max(record.claim for record in log)
        log = (*log, Claim(log[0].answer, late._replace(epoch=late.epoch + 1), "A", "m"))
        found.setdefault(_shape(log), log)
    return list(found.values())


def _shape(log: tuple[TokenRecord, ...]) -> tuple[object, ...]:
    ranks = sorted({record.claim for record in log})
    state, shape = EMPTY, []
    for record in log:
        after = real_fold(state, record)
        index = None if isinstance(record, Claim) else record.index
        shape.append((type(record), ranks.index(record.claim), index, after is not state))
        state = after
    return tuple(shape)
