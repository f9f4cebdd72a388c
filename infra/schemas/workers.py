"""The JSON Schemas of what answering workers say to each other."""

from typing import Any

from events.conversations import Band
from events.workers import (
    ENGINES_REPORTED_MAX,
    MODELS_REPORTED_MAX,
    QUEUES_REPORTED_MAX,
    SERVED_REPORTED_MAX,
)
from infra.schemas.events import DRAFT
from infra.schemas.tokens import TEXT, WHOLE
from processors.answers.scheduling.breaker import BreakerState

NUMBER = {"type": "number"}
PERHAPS = {"type": ["number", "null"]}
WHOLE_OR_NONE = {"type": ["integer", "null"], "minimum": 0}


def worker_schemas() -> dict[str, dict[str, Any]]:
    """By kind of record, which its header `kind` names."""
    loan = _row({"number": WHOLE, "places": WHOLE})
    debt = _row({"number": WHOLE, "used": WHOLE, "void": {"enum": [0, 1]}})
    properties = {
        "worker": TEXT,
        "number": {**WHOLE, "description": "of this worker's statements"},
        "wanted": _by("engine", WHOLE, "places that it could use more"),
        "lent": _by("engine", _by("borrower", loan, "a row: number, places"), "places it lends"),
        "owed": _by("engine", _by("owner", debt, "a row: number, used, void"), "what it borrowed"),
    }
    return {
        "report": _report(),
        "statement": {
            "$schema": DRAFT,
            "$id": "urn:thalweg:schema:workers.statement:1",
            "title": "Statement",
            "description": "What a worker lends of its engines' places, wants, and has borrowed. "
            "A later one replaces it whole.",
            "type": "object",
            "properties": properties,
            "required": list(properties),
        },
    }


def _report() -> dict[str, Any]:
    engine: dict[str, dict[str, Any]] = {
        "name": TEXT,
        "models": {"type": ["array", "null"], "items": TEXT, "maxItems": MODELS_REPORTED_MAX},
        "breaker": {"enum": [state.value for state in BreakerState]},
        "out_seconds": {**PERHAPS, "description": "how long it has taken no calls"},
        "places": {**WHOLE, "description": "calls that this worker may have there at once"},
        "bound": {**WHOLE, "description": "calls that it takes at once, of all workers"},
        "in_flight": WHOLE,
        "load": {**NUMBER, "description": "0: idle; 1: full"},
        "queued": WHOLE_OR_NONE,
        "running": WHOLE_OR_NONE,
        "tokens": WHOLE_OR_NONE,
        "age_seconds": {**PERHAPS, "description": "of the three before, which are the engine's"},
    }
    queue: dict[str, dict[str, Any]] = {
        "model": TEXT,
        "band": {"enum": [band.value for band in Band]},
        "tenant": {
            "type": ["string", "null"],
            "description": "null: of all that have no line of their own",
        },
        "waiting": WHOLE,
        "tokens": WHOLE,
        "waited_seconds": {**NUMBER, "description": "the oldest of them"},
    }
    served = {
        "model": TEXT,
        "requests_per_second": {**NUMBER, "description": "finished in the last ten"},
        "tokens_per_second": NUMBER,
        "expected_per_second": {
            **NUMBER,
            "description": "requests, by those under way and how long one took lately",
        },
    }
    properties = {
        "worker": TEXT,
        "partitions": WHOLE,
        "held": {**WHOLE, "description": "requests that it works on"},
        "engines": _list(engine, ENGINES_REPORTED_MAX),
        "queues": _list(queue, QUEUES_REPORTED_MAX),
        "served": _list(served, SERVED_REPORTED_MAX),
    }
    return {
        "$schema": DRAFT,
        "$id": "urn:thalweg:schema:workers.report:1",
        "title": "Report",
        "description": "How a worker is, once a second. A later one replaces it whole; after five "
        "seconds it says nothing any more.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


def _list(properties: dict[str, dict[str, Any]], items_max: int) -> dict[str, Any]:
    item = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "array", "items": item, "maxItems": items_max}


def _by(what: str, values: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": values,
        "description": f"by {what}: {description}",
    }


def _row(columns: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "array",
        "items": list(columns.values()),
        "minItems": len(columns),
        "maxItems": len(columns),
    }
