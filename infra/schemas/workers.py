"""The JSON Schemas of what answering workers say to each other."""

from typing import Any

from infra.schemas.events import DRAFT
from infra.schemas.tokens import TEXT, WHOLE


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
        "statement": {
            "$schema": DRAFT,
            "$id": "urn:thalweg:schema:workers.statement:1",
            "title": "Statement",
            "description": "What a worker lends of its engines' places, wants, and has borrowed. "
            "A later one replaces it whole.",
            "type": "object",
            "properties": properties,
            "required": list(properties),
        }
    }


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
