"""The files of docs/ that are generated, by their paths there."""

import json
from typing import Any

from events.catalog import EVENT_CLASSES
from infra.schemas.asyncapi import document
from infra.schemas.decisions import decisions_schema
from infra.schemas.events import event_schema, line_schema
from infra.schemas.tokens import token_schemas
from infra.schemas.workers import worker_schemas
from infra.schemas.yaml import as_yaml

BEGIN = "# Generated from the event classes: `python -m infra.schemas` writes it anew.\n"


def files() -> dict[str, str]:
    """Path and content of each."""
    schemas = {cls.TYPE: event_schema(cls) for cls in EVENT_CLASSES}
    schemas |= {f"tokens.{kind}": schema for kind, schema in token_schemas().items()}
    schemas |= {f"workers.{kind}": schema for kind, schema in worker_schemas().items()}
    schemas["decisions"] = decisions_schema()
    schemas["line"] = line_schema()
    made = {f"schemas/{name}.json": _json(schema) for name, schema in schemas.items()}
    return {"asyncapi.yaml": BEGIN + as_yaml(document()), **made}


def _json(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
