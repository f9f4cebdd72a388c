"""The JSON Schemas of what workers decide, made from the dataclasses."""

import types
from dataclasses import MISSING
from typing import Any, get_args, get_type_hints
from uuid import UUID

from events.decisions import KINDS, Candidate
from infra.schemas.events import DRAFT

JSON_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}


def decisions_schema() -> dict[str, Any]:
    return {
        "$schema": DRAFT,
        "$id": "urn:thalweg:schema:decisions:1",
        "title": "Decided",
        "description": "Some decisions of one worker, about one answer or one engine, in their "
        "order. Nothing is built on them: they may be missing.",
        "type": "object",
        "properties": {
            "worker": {"type": "string"},
            "decisions": {
                "type": "array",
                "items": {"oneOf": [_kind(kind, cls) for kind, cls in KINDS.items()]},
            },
        },
        "required": ["worker", "decisions"],
    }


def _kind(kind: str, cls: type[Any]) -> dict[str, Any]:
    properties = {"kind": {"const": kind}, "said": _object(cls)}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _object(cls: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    fields = cls.__dataclass_fields__
    properties = {name: _typed(hints[name]) for name in fields}
    required = [name for name, field in fields.items() if field.default is MISSING]
    return {"type": "object", "properties": properties, "required": required}


def _typed(hint: Any) -> dict[str, Any]:
    if hint is UUID:
        return {"type": "string", "format": "uuid"}
    if isinstance(hint, types.UnionType):
        (inner,) = (each for each in get_args(hint) if each is not type(None))
        typed = _typed(inner)
        return {**typed, "type": [typed["type"], "null"]}
    if hint == tuple[Candidate, ...]:
        return {"type": "array", "items": _object(Candidate)}
    return {"type": JSON_TYPES[hint]}
