"""The JSON Schemas of the events' data, and of the attributes around it."""

from typing import Any

from events.codec import SEALED
from events.envelope import Event
from events.personal import personal_fields

DRAFT = "http://json-schema.org/draft-07/schema#"
"""AsyncAPI's own dialect is a superset of it, and every tool knows it."""

SEALED_MEANING = "in place of all personal fields of what is not stored: nobody else can open it"
ATTRIBUTES: dict[str, tuple[str, bool]] = {
    "specversion": ("1.0: the version of CloudEvents", True),
    "id": ("UUID of the event; the same at every repeat", True),
    "source": ("/thalweg/ and the context", True),
    "type": ("what happened; names the schema of the data", True),
    "subject": ("UUID of the stream, which is the message's key too", True),
    "time": ("when the command came in, RFC 3339, by the clock of whoever took it", True),
    "sequence": ("position in the stream, dense from 1: drop what is lower or equal", True),
    "schemaversion": ("version of the data's fields", True),
    "tenant": ("UUID of the tenant", True),
    "datasubject": ("whose data it is", True),
    "actor": ("who acted: UUID of an API key, or one of the roles", True),
    "correlation": ("UUID of what this belongs to", True),
    "command": ("id of the command, unique per tenant", True),
    "causation": ("UUID of the event that led to this one", False),
    "traceparent": ("W3C Trace Context", False),
}
"""Each with its meaning, and whether it is always there. On Kafka they are headers: `ce_<name>`."""


def event_schema(cls: type[Event]) -> dict[str, Any]:
    """Of an event's data at its current version. `x-personal` marks content about a person."""
    schema = _plain(cls.model_json_schema(mode="serialization"))
    names = list(personal_fields(cls))
    for name in names:
        schema["properties"][name]["x-personal"] = True
    if names:
        schema["properties"][SEALED] = {"type": "string", "description": SEALED_MEANING}
        schema["required"] = [name for name in schema["required"] if name not in names]
        schema["oneOf"] = [{"required": names}, {"required": [SEALED]}]
    return {
        "$schema": DRAFT,
        "$id": f"urn:thalweg:schema:{cls.TYPE}:{cls.VERSION}",
        "title": cls.__name__,
        **schema,
    }


def headers_schema() -> dict[str, Any]:
    """Of the headers of an event on Kafka: CloudEvents 1.0, binary mode."""
    properties = {
        f"ce_{name}": {"type": "string", "description": meaning}
        for name, (meaning, _) in ATTRIBUTES.items()
    }
    required = [f"ce_{name}" for name, (_, always) in ATTRIBUTES.items() if always]
    return {
        "type": "object",
        "properties": {**properties, "content-type": {"const": "application/json"}},
        "required": [*required, "content-type"],
    }


def line_schema() -> dict[str, Any]:
    """Of a line of `GET /api/events` and of `thalweg export`: CloudEvents 1.0 in JSON."""
    properties: dict[str, Any] = {
        name: {"type": "string", "description": meaning}
        for name, (meaning, _) in ATTRIBUTES.items()
    }
    properties["logposition"] = {
        "type": "string",
        "pattern": "^[0-9]+$",
        "description": "place in the log of the context: rises in commit order, with gaps",
    }
    properties["sealed"] = {
        "const": True,
        "description": "personal content could not be opened: its fields are blank",
    }
    properties["datacontenttype"] = {"const": "application/json"}
    properties["data"] = {"type": "object", "description": "by the schema of the type"}
    required = [name for name, (_, always) in ATTRIBUTES.items() if always]
    return {
        "$schema": DRAFT,
        "$id": "urn:thalweg:schema:line:1",
        "title": "A line of the log",
        "type": "object",
        "properties": properties,
        "required": [*required, "logposition", "datacontenttype", "data"],
    }


def _plain(schema: Any) -> Any:
    """As draft 7 has it, and without the titles that pydantic makes of names. Every field is
    required: the encoder writes those with defaults too."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            plain[key] = {name: _plain(item) for name, item in value.items()}
        elif key == "prefixItems":
            plain["items"] = _plain(value)
        elif key not in ("title", "default", "required"):
            plain[key] = _plain(value)
    if "properties" in plain:
        plain["required"] = list(plain["properties"])
    return plain
