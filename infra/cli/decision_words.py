"""A worker's decision in a sentence, for `thalweg explain`."""

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


def words_of(decision: Decision) -> str:
    match decision:
        case WasQueued():
            begun = ", a part of it was shown" if decision.begun else ""
            whose = f" for the tenant {decision.tenant}" if decision.tenant is not None else ""
            return (
                f"queued{whose}, where {decision.others} others waited (band {decision.band}, "
                f"{decision.tokens} tokens, {decision.seconds_left:.1f} s left{begun})"
            )
        case WasDispatched():
            return (
                f"{_again(decision)}sent to {decision.engine} after "
                f"{_ms(decision.waited_seconds)}{_turn(decision)}: {_why(decision)}"
            )
        case CallEnded():
            kind = f" ({decision.error})" if decision.error else ""
            return (
                f"{decision.engine}: {OUTCOMES.get(decision.outcome, decision.outcome)}{kind} "
                f"after {_ms(decision.seconds)}, {decision.tokens} tokens"
            )
        case WasGivenUp():
            return f"given up: {WHYS.get(decision.why, decision.why)}"
        case BreakerChanged():
            return (
                f"the breaker of {decision.engine} went from {decision.before} to {decision.after}"
            )
        case EngineAppeared():
            return f"{decision.engine} came into the fleet"
        case EngineGone():
            return f"{decision.engine} left the fleet, with {decision.in_flight} calls of ours"


OUTCOMES = {
    "finished": "finished",
    "failed": "failed",
    "away": "could not be reached",
    "full": "had no room",
    "let_go": "was let go of (a cancel, a deadline, or the request was refused)",
}
WHYS = {
    "deadline": "its deadline passed while it waited",
    "contended": "engines were busy with others for longer than its band may wait",
    "no_capacity": "no engine took calls for too long",
}


def _again(decision: WasDispatched) -> str:
    """Nothing of a first call that begins an answer."""
    parts = []
    if (decision.attempt or 1) > 1:
        parts.append(f"attempt {decision.attempt}")
    if decision.said_tokens:
        parts.append(f"continued after {decision.said_tokens} tokens")
    return f"{', '.join(parts)}: " if parts else ""


def _turn(decision: WasDispatched) -> str:
    if decision.level is None or decision.tenant_tokens is None:
        return ""
    return f", as {decision.level}, its tenant's counter at {decision.tenant_tokens} tokens"


def _why(decision: WasDispatched) -> str:
    known = "; ".join(_known(one) for one in decision.candidates)
    match decision.because:
        case "prefix":
            return f"it spoke last in this conversation and had room ({known})"
        case "only":
            return f"no other had room ({known})"
        case "less_loaded":
            return f"the less loaded of two ({known})"
        case because:
            return f"{because} ({known})"


def _known(one: Candidate) -> str:
    own = f"{one.engine} {one.load:.0%} full, {one.in_flight} calls of ours"
    if one.age_seconds is None:
        return f"{own}, nothing lately from itself"
    said = {"queued": one.queued, "running": one.running, "tokens": one.tokens}
    told = ", ".join(f"{value} {name}" for name, value in said.items() if value is not None)
    return f"{own}, {told} by itself {_ms(one.age_seconds)} before"


def _ms(seconds: float) -> str:
    return f"{seconds * 1_000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
