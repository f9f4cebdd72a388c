"""What workers have decided about answers, and what they knew then: for `thalweg explain`, and for
whoever asks why an engine was taken. Nothing is built on them: they may be missing.
"""

from dataclasses import dataclass
from typing import Any, get_args
from uuid import UUID

import orjson

from events.codec import Undecodable


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine that was looked at, with what was known of it. None: it had not said so lately."""

    engine: str
    load: float
    """0: idle; 1: full."""
    in_flight: int
    """Calls of this worker."""
    queued: int | None
    running: int | None
    tokens: int | None
    age_seconds: float | None
    """Of the engine's own three figures."""


@dataclass(frozen=True, slots=True)
class WasQueued:
    """It waits for an engine."""

    KIND = "queued"
    at_ms: int
    answer: UUID
    band: str
    model: str
    tokens: int
    """Prompt and budget."""
    seconds_left: float
    """Until its deadline."""
    begun: bool
    """A part of it was shown already."""
    others: int
    """That waited at this worker, of all bands and models."""
    tenant: UUID | None = None
    """None, here and below: a former version did not say."""


@dataclass(frozen=True, slots=True)
class WasDispatched:
    """An engine is called."""

    KIND = "dispatched"
    at_ms: int
    answer: UUID
    engine: str
    because: str
    """prefix, only or less_loaded."""
    waited_seconds: float
    candidates: tuple[Candidate, ...]
    attempt: int | None = None
    """Calls that this worker has made for this answer, with this one."""
    said_tokens: int | None = None
    """Of the answer, which the call goes on from."""
    level: str | None = None
    """At which it was chosen: begun, or a band, which may be higher than its own by then."""
    tenant_tokens: int | None = None
    """What the tenant's virtual counter said there: the least of all tenants' that waited."""


@dataclass(frozen=True, slots=True)
class CallEnded:
    KIND = "call_ended"
    at_ms: int
    answer: UUID
    engine: str
    outcome: str
    """finished, failed, away, full or let_go."""
    tokens: int
    """Of the prompt and of what was said."""
    seconds: float
    error: str = ""
    """What kind of failure it was."""


@dataclass(frozen=True, slots=True)
class WasGivenUp:
    """It left the queue without an engine."""

    KIND = "given_up"
    at_ms: int
    answer: UUID
    why: str


@dataclass(frozen=True, slots=True)
class BreakerChanged:
    KIND = "breaker_changed"
    at_ms: int
    engine: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class EngineAppeared:
    """It came into the fleet, or back, while the worker ran."""

    KIND = "engine_appeared"
    at_ms: int
    engine: str


@dataclass(frozen=True, slots=True)
class EngineGone:
    """It gets nothing more, and finishes what it has."""

    KIND = "engine_gone"
    at_ms: int
    engine: str
    in_flight: int
    """Calls of this worker that it has."""


OfAnswer = WasQueued | WasDispatched | CallEnded | WasGivenUp
OfEngine = BreakerChanged | EngineAppeared | EngineGone
Decision = OfAnswer | OfEngine
KINDS: dict[str, type[Any]] = {cls.KIND: cls for cls in get_args(OfAnswer) + get_args(OfEngine)}


def key_of(decision: Decision) -> str:
    """What it is about: the answer's id, or the engine's name."""
    return decision.engine if isinstance(decision, OfEngine) else str(decision.answer)


@dataclass(frozen=True, slots=True)
class Decided:
    """Some decisions of one worker, about one answer or one engine, in their order."""

    worker: str
    decisions: tuple[Decision, ...]


def encode_decided(decided: Decided) -> bytes:
    rows = [{"kind": one.KIND, "said": one} for one in decided.decisions]
    return orjson.dumps({"worker": decided.worker, "decisions": rows})


def decode_decided(value: bytes | None) -> Decided:
    """The inverse; a kind that a later version has is passed over. Raises Undecodable."""
    try:
        fields = orjson.loads(value or b"")
        rows = [row for row in fields["decisions"] if row["kind"] in KINDS]
        return Decided(str(fields["worker"]), tuple(_decision(row) for row in rows))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Undecodable(f"no decisions of a worker: {error!r}") from error


def _decision(row: dict[str, Any]) -> Decision:
    cls, said = KINDS[row["kind"]], dict(row["said"])
    for name in ("answer", "tenant"):
        if said.get(name) is not None:
            said[name] = UUID(said[name])
    if "candidates" in said:
        said["candidates"] = tuple(
            Candidate(**_known(Candidate, one)) for one in said["candidates"]
        )
    made: Decision = cls(**_known(cls, said))
    return made


def _known(cls: type[Any], said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if name in cls.__dataclass_fields__}
