"""The JSON Schemas of the records of the tokens topic, which the codec writes by hand."""

from typing import Any

from events.conversations import EndKind
from infra.schemas.events import DRAFT

WHOLE = {"type": "integer", "minimum": 0}
TEXT = {"type": "string"}
TEXT_OR_NONE = {"type": ["string", "null"]}
UUID = {"type": "string", "format": "uuid"}
LOGPROBS = {
    "type": "array",
    "description": "of each token: the token, its log probability, the likeliest in its place",
    "items": {
        "type": "array",
        "items": [
            TEXT,
            {"type": "number"},
            {
                "type": "array",
                "items": {"type": "array", "items": [TEXT, {"type": "number"}], "minItems": 2},
            },
        ],
        "minItems": 3,
        "maxItems": 3,
    },
}
CLAIM = {
    "answer": UUID,
    "epoch": {"type": "integer", "description": "generation of the workers' consumer group"},
    "claim": {**UUID, "description": "with the epoch, the greater claim wins"},
}
SAID = {
    "index": {**WHOLE, "description": "of the record in the answer, dense from 0 over all claims"},
    "text": TEXT,
    "tokens": {**WHOLE, "description": "how many tokens the text is"},
}
USAGE = {
    "type": "object",
    "properties": {"prompt_tokens": WHOLE, "completion_tokens": WHOLE},
    "required": ["prompt_tokens", "completion_tokens"],
}


def token_schemas() -> dict[str, dict[str, Any]]:
    """By kind of record."""
    return {
        "claim": _record(
            "claim",
            "A worker is about to speak. Only what a fold of all records counts was said: see "
            "docs/protocol.md.",
            {"worker": TEXT, "model": TEXT, "protocol": WHOLE, "traceparent": TEXT_OR_NONE},
        ),
        "chunk": _record(
            "chunk",
            "Some text of an answer. It counts if its claim is the current one and its index is "
            "the next.",
            SAID,
            {
                "seam": {"const": True, "description": "another call spoke from here on"},
                "token_ids": {"type": "array", "items": WHOLE},
                "logprobs": LOGPROBS,
            },
        ),
        "end": _record(
            "end",
            "The end of an answer, with its last text. It counts as a chunk does.",
            {
                **SAID,
                "how": {"enum": [kind.value for kind in EndKind]},
                "reason": TEXT,
                "error": TEXT_OR_NONE,
                "usage": USAGE,
            },
            {"logprobs": LOGPROBS},
        ),
    }


def _record(
    kind: str, description: str, always: dict[str, Any], perhaps: dict[str, Any] | None = None
) -> dict[str, Any]:
    required = {**CLAIM, "kind": {"const": kind}, **always}
    return {
        "$schema": DRAFT,
        "$id": f"urn:thalweg:schema:tokens.{kind}:1",
        "title": kind.capitalize(),
        "description": description,
        "type": "object",
        "properties": {**required, **(perhaps or {})},
        "required": list(required),
        "additionalProperties": False,
    }
