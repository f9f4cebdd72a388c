"""A worker's state machine to put inputs into, in several states, for the tests of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from events.answers import EMPTY, Chunk, Claim, ClaimId, End, Fold, TokenRecord, fold
from events.conversations import EndKind, Usage
from events.ids import AnswerId
from processors.answers.protocol import hold, step
from processors.answers.protocol_words import (
    Bounds,
    Held,
    Input,
    Loaded,
    Output,
    Read,
    Send,
)

ANSWER = AnswerId(UUID(int=1))
BOUNDS = Bounds(claims_without_progress_max=2, answer_bytes_max=20, held_chunks_max=2)
OPEN = Loaded(ended=False, cancelled=False, expired=False, tokens_max=10)
GENERATION = 5
OTHER = ClaimId(GENERATION + 1, UUID(int=9))
SAME_EPOCH = ClaimId(GENERATION, UUID(int=10**6))


@dataclass
class Worker:
    """Puts inputs into one state, with fresh ids 100, 101, ..., and keeps the last outputs."""

    state: Held
    outputs: tuple[Output, ...]
    ids: int = 99
    sent: list[TokenRecord] = field(default_factory=list)

    def put(self, *inputs: Input) -> tuple[Output, ...]:
        for each in inputs:
            self.ids += 1
            self.state, self.outputs = step(self.state, each, UUID(int=self.ids))
            self.sent += [out.record for out in self.outputs if isinstance(out, Send)]
        return self.outputs

    def reads_own(self) -> tuple[Output, ...]:
        """The log gives back everything sent since the last time."""
        back, self.sent = self.sent, []
        outputs: tuple[Output, ...] = ()
        for record in back:
            outputs += self.put(Read(record))
        return outputs

    @property
    def claim(self) -> ClaimId:
        assert self.state.claim is not None
        return self.state.claim


def a_worker(said: Fold = EMPTY) -> Worker:
    return Worker(
        *hold(ANSWER, worker="w", model="m", generation=GENERATION, bounds=BOUNDS, said=said)
    )


def a_claimant(said: Fold = EMPTY, loaded: Loaded = OPEN) -> Worker:
    worker = a_worker(said)
    worker.put(loaded)
    return worker


def a_speaker(said: Fold = EMPTY) -> Worker:
    worker = a_claimant(said)
    worker.reads_own()
    return worker


def folded(*records: TokenRecord) -> Fold:
    state = EMPTY
    for record in records:
        state = fold(state, record)
    return state


def claim_of(claim: ClaimId) -> Claim:
    return Claim(ANSWER, claim, "other", "m")


def end_of(claim: ClaimId, index: int) -> End:
    return End(ANSWER, claim, index, EndKind.FINISH, "stop", None, "", 0, Usage())


EARLIER = ClaimId(GENERATION - 1, UUID(int=3))
BEGUN = folded(claim_of(EARLIER), Chunk(ANSWER, EARLIER, 0, "Once ", 1))


def the_sent(outputs: Iterable[Output]) -> TokenRecord:
    (record,) = (out.record for out in outputs if isinstance(out, Send))
    return record


def the_end(outputs: Iterable[Output]) -> End:
    record = the_sent(outputs)
    assert isinstance(record, End)
    return record
