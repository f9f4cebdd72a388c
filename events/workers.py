"""What an answering worker says of itself once a second: gateways admit by it, operators look at
it. A later report of a worker replaces an earlier one whole; nothing is decided by an old one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import orjson

from events.codec import Undecodable
from events.conversations import Band

Row = TypeVar("Row")

TENANTS_REPORTED_MAX = 20
"""Of a model and band: those with most waiting; the others are one line without a name."""
QUEUES_REPORTED_MAX = 1_000
"""Lines: those with most waiting. While no engine has named its models, clients may ask for any."""
ENGINES_REPORTED_MAX = 500
"""A report of so many is some 200 kB, once a second."""
MODELS_REPORTED_MAX = 100
"""Of an engine: a base model and its adapters."""
SERVED_REPORTED_MAX = 1_000
"""Models: those of which most was finished."""


@dataclass(frozen=True, slots=True)
class EngineReport:
    """One engine, as one worker sees it. None: it is not known."""

    name: str
    models: tuple[str, ...] | None
    breaker: str
    """closed, open or half_open."""
    out_seconds: float | None
    """How long it has taken no calls; None: it takes some, even if it is full now."""
    places: int
    """Calls that this worker may have there at once."""
    bound: int
    """Calls that it takes at once, of all workers."""
    in_flight: int
    """Of this worker."""
    load: float
    """0: idle; 1: full."""
    queued: int | None
    running: int | None
    tokens: int | None
    age_seconds: float | None
    """Of the engine's own three figures."""


@dataclass(frozen=True, slots=True)
class QueueReport:
    """What waits of one tenant for one model."""

    model: str
    band: Band
    tenant: UUID | None
    """None: of all that have no line of their own."""
    waiting: int
    tokens: int
    """What they may use, prompts and answers."""
    waited_seconds: float
    """The oldest of them."""


@dataclass(frozen=True, slots=True)
class ServedReport:
    """What was finished of one model in the last seconds, for each second."""

    model: str
    requests_per_second: float
    tokens_per_second: float
    expected_per_second: float
    """Requests that will be, by those under way and how long one took lately: right also in the
    first seconds of a burst, and when none of its long answers has ended yet."""


@dataclass(frozen=True, slots=True)
class Report:
    worker: str
    partitions: int
    """How many it owns."""
    held: int
    """Requests that it works on."""
    engines: tuple[EngineReport, ...] = ()
    queues: tuple[QueueReport, ...] = ()
    served: tuple[ServedReport, ...] = ()


def encode_report(report: Report) -> bytes:
    return orjson.dumps(report)


def decode_report(value: bytes | None) -> Report:
    """The inverse of `encode_report`; fields that are not known are passed over. Raises
    Undecodable, also for one that lists more than a worker says."""
    try:
        said = orjson.loads(value or b"")
        return Report(
            str(said["worker"]),
            int(said["partitions"]),
            int(said["held"]),
            _list(said["engines"], ENGINES_REPORTED_MAX, _engine),
            _list(said["queues"], QUEUES_REPORTED_MAX, _queue),
            _list(said["served"], SERVED_REPORTED_MAX, _served),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Undecodable(f"not a worker's report: {error!r}") from error


def _list(rows: list[Any], rows_max: int, read: Callable[[Any], Row]) -> tuple[Row, ...]:
    if len(rows) > rows_max:
        raise ValueError(f"a list has {len(rows)} entries, {rows_max} may be")
    return tuple(map(read, rows))


def _engine(said: dict[str, Any]) -> EngineReport:
    models = said["models"]
    return EngineReport(
        name=str(said["name"]),
        models=None if models is None else _list(models, MODELS_REPORTED_MAX, str),
        breaker=str(said["breaker"]),
        out_seconds=_perhaps(said["out_seconds"]),
        places=int(said["places"]),
        bound=int(said["bound"]),
        in_flight=int(said["in_flight"]),
        load=float(said["load"]),
        queued=_whole(said["queued"]),
        running=_whole(said["running"]),
        tokens=_whole(said["tokens"]),
        age_seconds=_perhaps(said["age_seconds"]),
    )


def _queue(said: dict[str, Any]) -> QueueReport:
    tenant = said["tenant"]
    return QueueReport(
        model=str(said["model"]),
        band=Band(said["band"]),
        tenant=None if tenant is None else UUID(tenant),
        waiting=int(said["waiting"]),
        tokens=int(said["tokens"]),
        waited_seconds=float(said["waited_seconds"]),
    )


def _served(said: dict[str, Any]) -> ServedReport:
    return ServedReport(
        str(said["model"]),
        float(said["requests_per_second"]),
        float(said["tokens_per_second"]),
        float(said["expected_per_second"]),
    )


def _perhaps(value: Any) -> float | None:
    return None if value is None else float(value)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
