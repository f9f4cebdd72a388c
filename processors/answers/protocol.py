"""The worker's part of the answer protocol: a pure state machine, one state a request held.

`step(state, input, fresh)` gives the next state and what the shell (worker.py) has to do, in order.
No clock, no random, no I/O: times come in as inputs, ids as `fresh`. What was said, and who may
speak, comes from the fold of the log alone; a producer's acknowledgement says nothing here. The
rules, and what goes wrong without each, are in docs/protocol.md; tests/protocol explores this
module exhaustively together with the fold and a model of the log. Its words (states, inputs,
outputs) are in protocol_words.py.

The shell promises:
- inputs of one request come one at a time; every token record of the answer that lies behind the
  fold given to `hold` is put in as `Read`, once, in the log's order;
- sends of one worker reach the log in order, or fail: a failure fails all that is outstanding, and
  is put in as `ProduceFailed` for each claim that it hits;
- while `room(state)` is false it does not put in `Said`, but lets the engine wait;
- a call that is hushed or over puts in nothing more (inputs of an older call are ignored anyway);
- there is one timer a request; starting it replaces it, and a stopped one does not fire;
- after `Forget` it puts in nothing more.
"""

from uuid import UUID

from events.answers import EMPTY, Chunk, Claim, ClaimId, End, Fold, TokenRecord, fold
from events.changed import changed
from events.conversations import EndKind, Usage
from events.ids import AnswerId
from processors.answers.engine import FinishReason
from processors.answers.protocol_words import (
    ERRORS,
    Acknowledge,
    Bounds,
    CancelAsked,
    EngineFailed,
    EngineFinished,
    Expired,
    Failure,
    Forget,
    GenerationChanged,
    Held,
    Hush,
    Input,
    Load,
    Loaded,
    LoadFailed,
    Output,
    Phase,
    ProduceFailed,
    Read,
    Said,
    Send,
    Speak,
    StartTimer,
    Step,
    StopTimer,
    TimerFired,
    Wait,
    own_claim,
)
from processors.answers.text import fitting, within

NOTHING = Said(0, "", 0)


def hold(
    answer: AnswerId,
    *,
    worker: str,
    model: str,
    generation: int,
    bounds: Bounds,
    said: Fold = EMPTY,
    traceparent: str | None = None,
) -> Step:
    """Takes a request up.

    `said` is the fold of the answer's records up to the log's end at the time of the assignment or
    later; it must begin at or before the answer's first claim.
    """
    state = Held(answer, worker, model, bounds, generation, fold=said, traceparent=traceparent)
    if said.end is not None:
        return _done(state, Acknowledge())
    return state, (Load(),)


def room(state: Held) -> bool:
    """Whether a Said may be put in now."""
    if state.phase is Phase.CLAIMING:
        return len(state.held) < state.bounds.held_chunks_max
    return state.next_index - state.fold.next_index < state.bounds.unread_chunks_max


def step(state: Held, put: Input, fresh: UUID) -> Step:
    """`fresh` is an id that was never given before, greater than all given in this process."""
    if state.phase is Phase.DONE:
        return state, ()
    match put:
        case Read(record):
            return _read(state, record, fresh)
        case Said() | EngineFinished() | EngineFailed():
            if not state.calling or put.call != state.call:
                return state, ()
            return _hear(state, put, fresh)
        case Loaded() | LoadFailed():
            return _loaded(state, put, fresh)
        case ProduceFailed(claim):
            return _produce_failed(state, claim, fresh)
        case TimerFired():
            return _timer_fired(state, fresh)
        case GenerationChanged(generation, owned):
            return _generation_changed(state, generation, owned, fresh)
        case CancelAsked():
            return _stop(changed(state, cancelled=True))
        case Expired():
            return _stop(changed(state, expired=True))


# Claiming ----------------------------------------------------------------------------------------


def _loaded(state: Held, put: Loaded | LoadFailed, fresh: UUID) -> Step:
    if state.phase is not Phase.LOADING:
        return state, ()
    if isinstance(put, LoadFailed):
        return state, (StartTimer(Wait.LOAD_AGAIN),)
    if put.ended:
        return _done(state, Acknowledge())
    state = changed(
        state,
        cancelled=state.cancelled or put.cancelled,
        expired=state.expired or put.expired,
        unreadable=put.unreadable,
        tokens_max=put.tokens_max,
    )
    current = state.fold.claim
    if current is not None and ClaimId(state.generation, fresh) <= current:
        return _wait(state)
    return _claim(state, state.generation, fresh)


def _claim(state: Held, epoch: int, fresh: UUID) -> Step:
    """Claims. With nothing said yet an engine starts at once, but what it says is held back."""
    state, dropped = _drop(state)
    claim = ClaimId(epoch, fresh)
    state = changed(state, phase=Phase.CLAIMING, claim=claim)
    send = Send(
        Claim(state.answer, claim, state.worker, state.model, traceparent=state.traceparent)
    )
    claims = state.fold.claims_without_progress + 1
    begun = state.fold.next_index > 0 or state.next_index > 0  # own chunks may be under way
    if begun or _without_engine(state, claims) is not None:
        return state, (*dropped, send)
    state, speak = _call(state, further=False)
    return state, (*dropped, send, *speak)


def _claim_over_own(state: Held, fresh: UUID) -> Step:
    """Nobody's claim is greater than the own one, but what was sent under it may have holes."""
    return _claim(state, max(state.generation, own_claim(state).epoch), fresh)


def _superseded(state: Held, fresh: UUID) -> Step:
    """Another's claim is greater. The partition is still this worker's as far as it knows."""
    current = state.fold.claim
    if current is None or state.generation > current.epoch:
        return _claim(state, state.generation, fresh)
    return _wait(state)


def _wait(state: Held) -> Step:
    """Longer than a session: by then a worker that lost the partition has heard of it."""
    state, dropped = _drop(state)
    state = changed(state, phase=Phase.WAITING, claim=None)
    return state, (*dropped, StartTimer(Wait.CLAIM_AGAIN))


def _timer_fired(state: Held, fresh: UUID) -> Step:
    if state.phase is Phase.LOADING:
        return state, (Load(),)
    if state.phase is not Phase.WAITING:
        return state, ()
    over = state.fold.claim.epoch + 1 if state.fold.claim is not None else 0
    return _claim(state, max(state.generation, over), fresh)


def _generation_changed(state: Held, generation: int, owned: bool, fresh: UUID) -> Step:
    state = changed(state, generation=generation)
    if not owned:
        return _done(state)
    current = state.fold.claim
    if state.phase is Phase.WAITING and current is not None and generation > current.epoch:
        state, claim = _claim(state, generation, fresh)
        return state, (StopTimer(), *claim)
    return state, ()


def _produce_failed(state: Held, claim: ClaimId, fresh: UUID) -> Step:
    if claim != state.claim:
        return state, ()
    if state.phase is Phase.CLAIMING:
        return _wait(state)  # the log may be away: not in a tight loop
    return _claim_over_own(state, fresh)


# Reading the log ---------------------------------------------------------------------------------


def _read(state: Held, record: TokenRecord, fresh: UUID) -> Step:
    state = changed(state, fold=fold(state.fold, record))
    if state.fold.end is not None:
        return _done(state, Acknowledge())
    if state.claim is None:
        return state, ()
    if state.fold.claim is not None and state.fold.claim > state.claim:
        return _superseded(state, fresh)
    if record.claim != state.claim:
        return state, ()
    if isinstance(record, Claim):
        return _claimed(state, fresh) if state.phase is Phase.CLAIMING else (state, ())
    if record.index > state.fold.next_index:
        return _claim_over_own(state, fresh)  # one of the own records before it is missing
    if state.more and state.fold.next_index == state.next_index:
        return _call(state, further=True)
    return state, ()


def _claimed(state: Held, fresh: UUID) -> Step:
    """The own claim counts: the fold up to here is the durable prefix."""
    early, held = _early_words_stand(state), state.held
    state = changed(
        state,
        phase=Phase.SPEAKING,
        held=(),
        next_index=state.fold.next_index,
        said_tokens=state.fold.tokens,
        said_bytes=state.fold.text_bytes,
    )
    verdict = _without_engine(state, state.fold.claims_without_progress)
    if verdict is not None:
        return _end(state, *verdict)
    if not early:
        state, dropped = _drop(state)
        state, speak = _call(state, further=False)
        return state, (*dropped, *speak)
    outputs: tuple[Output, ...] = ()
    for put in held:
        state, more = step(state, put, fresh)
        outputs += more
    return state, outputs


def _early_words_stand(state: Held) -> bool:
    """The engine began with nothing said; another's late chunk may have come before the claim."""
    return state.calling and state.fold.next_index == 0


def _without_engine(state: Held, claims: int) -> tuple[EndKind, str, str | None] | None:
    """Why the claimant ends without an engine: kind, reason and error. None: it may speak."""
    if state.cancelled:
        return EndKind.CANCELLED, "cancelled", None
    if state.expired:
        return EndKind.FAIL, "deadline", "The answer took longer than its deadline."
    if state.unreadable:
        return EndKind.FAIL, "unreadable", "The conversation cannot be read. Start a new one."
    is_long = state.fold.text_bytes >= state.bounds.answer_bytes_max
    if is_long or state.fold.tokens >= state.tokens_max:
        return EndKind.FINISH, "length", None
    if claims > state.bounds.claims_without_progress_max:
        error = f"{claims - 1} attempts in a row brought no text. Do not send this request again."
        return EndKind.FAIL, "poisonous", error
    return None


# Speaking ----------------------------------------------------------------------------------------


def _call(state: Held, *, further: bool) -> Step:
    state = changed(
        state,
        call=state.call + 1,
        calling=True,
        heard=False,
        seam=further,
        more=False,
        prefix_tokens=state.fold.tokens,
    )
    left = state.tokens_max - state.fold.tokens
    return state, (Speak(state.call, state.fold.text, left),)


def _hear(state: Held, put: Said | EngineFinished | EngineFailed, fresh: UUID) -> Step:
    if state.phase is Phase.CLAIMING:
        return changed(state, held=(*state.held, put)), ()
    match put:
        case Said():
            return _say(state, put)
        case EngineFinished():
            return _finished(changed(state, calling=False), put)
        case EngineFailed(failure=failure, message=message):
            heard, state = state.heard, changed(state, calling=False)
            if failure is Failure.FAILED and heard:
                return _claim_over_own(state, fresh)
            return _end(state, EndKind.FAIL, failure.value, message or ERRORS[failure])


def _say(state: Held, put: Said) -> Step:
    """Sends a chunk: the index counts on from the fold, without waiting for what is under way."""
    tokens, size = state.said_tokens + put.tokens, state.said_bytes + len(put.text.encode())
    if tokens > state.tokens_max or size > state.bounds.answer_bytes_max:
        return _end(state, EndKind.FINISH, "length", None, put)
    chunk = Chunk(
        state.answer,
        own_claim(state),
        state.next_index,
        put.text,
        put.tokens,
        seam=state.seam,
        token_ids=put.token_ids,
        logprobs=put.logprobs,
    )
    state = changed(
        state,
        heard=True,
        seam=False,
        next_index=state.next_index + 1,
        said_tokens=tokens,
        said_bytes=size,
    )
    return state, (Send(chunk),)


def _finished(state: Held, put: EngineFinished) -> Step:
    if not state.prompt_tokens:
        counted = max(0, put.prompt_tokens - state.prefix_tokens)
        state = changed(state, prompt_tokens=counted)
    left = state.tokens_max - state.said_tokens - put.tokens
    spoke = state.heard or put.text != ""  # a call without a word would be repeated for ever
    if put.reason is FinishReason.LENGTH and left > 0 and spoke and not put.context_full:
        return _call_again(state, put)
    return _end(state, EndKind.FINISH, put.reason.value, None, put)


def _call_again(state: Held, put: EngineFinished) -> Step:
    """The engine's limit a call was reached: the next call starts from what was read back."""
    outputs: tuple[Output, ...] = ()
    if put.text:
        said = Said(put.call, put.text, put.tokens, put.token_ids, put.logprobs)
        state, outputs = _say(state, said)
        if state.phase is not Phase.SPEAKING:
            return state, outputs
    if state.fold.next_index < state.next_index:
        return changed(state, more=True), outputs
    state, speak = _call(state, further=True)
    return state, (*outputs, *speak)


# Ending ------------------------------------------------------------------------------------------


def _stop(state: Held) -> Step:
    """Cancelled or past the deadline: a claimant ends, everybody else keeps it in mind."""
    if state.phase is Phase.CLAIMING:
        return _drop(state)
    verdict = _without_engine(state, 0) if state.phase is Phase.SPEAKING else None
    return _end(state, *verdict) if verdict is not None else (state, ())


def _end(
    state: Held,
    kind: EndKind,
    reason: str,
    error: str | None,
    last: Said | EngineFinished = NOTHING,
) -> Step:
    """Sends the end, with the last text. It is over only when an end that counts is read back."""
    state, dropped = _drop(state)
    text, tokens, logprobs = last.text, last.tokens, last.logprobs
    text = fitting(text, state.bounds.answer_bytes_max - state.said_bytes)
    if text != last.text:
        reason, logprobs = FinishReason.LENGTH.value, within(text, logprobs)
    claim, index, sends = own_claim(state), state.next_index, dropped
    usage = Usage(prompt_tokens=state.prompt_tokens, completion_tokens=state.said_tokens + tokens)
    if state.seam and text:  # an end can't say that a further call begins with it
        chunk = Chunk(state.answer, claim, index, text, tokens, True, logprobs=logprobs)
        index, text, tokens, logprobs, sends = index + 1, "", 0, (), (*sends, Send(chunk))
    end = End(state.answer, claim, index, kind, reason, error, text, tokens, usage, logprobs)
    state = changed(state, phase=Phase.ENDING, next_index=index + 1)
    return state, (*sends, Send(end))


def _drop(state: Held) -> Step:
    """Closes the engine's stream and forgets what was not sent."""
    hush: tuple[Output, ...] = (Hush(),) if state.calling else ()
    return changed(state, calling=False, more=False, held=()), hush


def _done(state: Held, *outputs: Output) -> Step:
    stop = (StopTimer(),) if state.phase in (Phase.LOADING, Phase.WAITING) else ()
    state, dropped = _drop(state)
    return changed(state, phase=Phase.DONE), (*dropped, *stop, *outputs, Forget())
