"""The words of the answer protocol: what a worker knows of a request, its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from events.answers import ClaimId, Fold, Logprobs, TokenRecord
from events.ids import AnswerId
from processors.answers.engine import FinishReason

# State -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of one answer; the defaults and their reasons are in the settings."""

    claims_without_progress_max: int
    """That many claims in a row may bring no chunk; the next claimant ends with `poisonous`."""
    answer_bytes_max: int
    """UTF-8 bytes of text; a longer answer ends with reason `length`."""
    held_chunks_max: int = 16
    """Chunks kept until the own claim is read back: some milliseconds of a quick engine."""
    unread_chunks_max: int = 256
    """Chunks sent and not yet read back: beyond it Kafka is slower than the engine."""


class Phase(Enum):
    LOADING = "loading"
    """Waits for the event store."""
    WAITING = "waiting"
    """Another's claim is the current one; claims again when the timer fires."""
    CLAIMING = "claiming"
    """The own claim was sent and not yet read back."""
    SPEAKING = "speaking"
    """The own claim counts; chunks are sent."""
    ENDING = "ending"
    """The own end was sent and not yet read back."""
    DONE = "done"
    """Forgotten: nothing is to be put in any more."""


@dataclass(frozen=True)  # no slots: see `changed`
class Held:
    """One request that a worker holds. Made by `hold`, changed by `step` alone."""

    answer: AnswerId
    worker: str
    model: str
    bounds: Bounds
    generation: int
    fold: Fold
    traceparent: str | None = None
    phase: Phase = Phase.LOADING
    tokens_max: int = 0
    cancelled: bool = False
    expired: bool = False
    unreadable: bool = False
    claim: ClaimId | None = None
    """The own claim that is under way or counts."""
    call: int = 0
    """The number of the last engine call."""
    calling: bool = False
    """That call is open."""
    heard: bool = False
    """That call has said a chunk."""
    seam: bool = False
    """The next chunk is the first of a further call under the same claim."""
    more: bool = False
    """The engine's limit a call was reached: call again once everything sent was read back."""
    held: tuple[Said | EngineFinished | EngineFailed, ...] = ()
    """What the engine did before the own claim was read back."""
    next_index: int = 0
    """Of the next record under the own claim."""
    said_tokens: int = 0
    said_bytes: int = 0
    """Of the whole answer: the fold's and what was sent since."""
    prompt_tokens: int = 0
    """As an engine counted them, without what was said."""
    prefix_tokens: int = 0
    """Tokens of the prefix that the last call was given."""


# Inputs ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loaded:
    """The event store was read, and the transcript with it (the shell keeps that)."""

    ended: bool
    """The answer's end is recorded."""
    cancelled: bool
    """A cancel was asked for."""
    expired: bool
    """Nothing is left of the deadline."""
    tokens_max: int
    """Budget of the whole answer, what was said included."""
    unreadable: bool = False
    """What the event store holds cannot be understood, and it is not waited for any longer; or it
    was not to be stored, and has expired."""


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The event store could not be read."""


@dataclass(frozen=True, slots=True)
class Read:
    """A token record of this answer, as read back from the log; everybody's, in the log's order."""

    record: TokenRecord


@dataclass(frozen=True, slots=True)
class Said:
    """The engine has said a chunk's worth of text (gathered, whole, free of stop sequences)."""

    call: int
    text: str
    tokens: int
    token_ids: tuple[int, ...] | None = None
    logprobs: Logprobs = ()


@dataclass(frozen=True, slots=True)
class EngineFinished:
    """The engine finished its call; `text` is the rest that was not put in as Said."""

    call: int
    reason: FinishReason
    text: str = ""
    tokens: int = 0
    """Of `text`."""
    prompt_tokens: int = 0
    """As the engine counted this call's prompt, a prefix included; 0 if it does not say."""
    context_full: bool = False
    """No further call can go on."""
    token_ids: tuple[int, ...] | None = None
    """Of `text`."""
    logprobs: Logprobs = ()


class Failure(Enum):
    OVERLOADED = "overloaded"
    """No engine had room within the dispatcher's bound; nothing was said."""
    NO_ENGINE = "no_engine"
    """None that can do it took calls within the dispatcher's bound; nothing was said."""
    REFUSED = "refused"
    """No engine will ever serve this; the message is fit to be shown."""
    FAILED = "engine"
    """It broke. If it had said nothing, the dispatcher has tried the others already."""
    CANNOT_CONTINUE = "cannot_continue"
    """It cannot go on from what was said."""


ERRORS = {
    Failure.OVERLOADED: "All engines are busy. Try again later.",
    Failure.NO_ENGINE: "No engine serves this model at the moment. Try again later.",
    Failure.REFUSED: "The engine refused the request.",
    Failure.FAILED: "The engines failed. Try again later.",
    Failure.CANNOT_CONTINUE: "An engine failed in the middle, and no other can go on from there.",
}
"""What a client is told, if the engine gave no message."""


@dataclass(frozen=True, slots=True)
class EngineFailed:
    call: int
    failure: Failure
    message: str = ""


@dataclass(frozen=True, slots=True)
class ProduceFailed:
    """A record under `claim` may not have reached the log (it still may, late)."""

    claim: ClaimId


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody asked that the answer stop."""


@dataclass(frozen=True, slots=True)
class Expired:
    """The deadline has passed."""


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The timer that StartTimer started."""


@dataclass(frozen=True, slots=True)
class GenerationChanged:
    """The consumer group was rebalanced; `owned`: the partition is (still) this worker's."""

    generation: int
    owned: bool


Input = (
    Loaded
    | LoadFailed
    | Read
    | Said
    | EngineFinished
    | EngineFailed
    | ProduceFailed
    | CancelAsked
    | Expired
    | TimerFired
    | GenerationChanged
)

# Outputs -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """Read the event store; put in Loaded or LoadFailed."""


@dataclass(frozen=True, slots=True)
class Send:
    """Append the record to the log. Nobody waits for it: put in ProduceFailed if it fails."""

    record: TokenRecord


@dataclass(frozen=True, slots=True)
class Speak:
    """Call an engine; put in Said (if `room`), then EngineFinished or EngineFailed, with `call`."""

    call: int
    said: str
    """The durable prefix, exactly."""
    tokens_max: int
    """How many tokens may still be said."""


@dataclass(frozen=True, slots=True)
class Hush:
    """Close the engine's stream; drop what it has said and was not put in."""


class Wait(Enum):
    CLAIM_AGAIN = "claim_again_seconds"
    LOAD_AGAIN = "load_again_seconds"


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Put in TimerFired after the time that `wait` names."""

    wait: Wait


@dataclass(frozen=True, slots=True)
class StopTimer:
    """The timer must not fire any more."""


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """The answer has ended: its request may be committed to Kafka (at the low watermark)."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop this state. Without Acknowledge before it, the request is somebody else's now."""


Output = Load | Send | Speak | Hush | StartTimer | StopTimer | Acknowledge | Forget
Step = tuple[Held, tuple[Output, ...]]


def own_claim(state: Held) -> ClaimId:
    """The claim under which records are sent."""
    if state.claim is None:
        raise ValueError("only a claimant sends records")
    return state.claim
