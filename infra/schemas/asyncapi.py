"""The AsyncAPI 3 document: every topic, who writes and reads it, and what stands on it."""

from importlib.metadata import version
from typing import Any

from events.catalog import CONTEXTS, EVENT_CLASSES
from events.conversations import AnswerAskedAgain, AnswerCancelRequested, AnswerRequested, Band
from events.envelope import Event
from events.topics import Topics
from infra.schemas.decisions import decisions_schema
from infra.schemas.events import headers_schema
from infra.schemas.tokens import token_schemas
from infra.schemas.workers import worker_schemas

DESCRIPTION = """\
What stands on the Kafka topics of Thalweg. Domain events are CloudEvents 1.0 in binary mode; \
their key is the stream. Delivery is at least once and, once repeats are dropped, in order per \
stream: keep the last ce_sequence of each ce_subject and drop what is lower or equal. The number \
of partitions of a topic is for life, and the same for all of them.\
"""
JSON_SCHEMA = "application/schema+json;version=draft-07"


def document(topics: Topics | None = None) -> dict[str, Any]:
    """The whole document; its schemas are files beside it."""
    topics = topics or Topics()
    channels, operations = {}, {}
    for context in CONTEXTS:
        classes = [cls for cls in EVENT_CLASSES if cls.context() == context]
        channels[context] = _channel(
            topics.domain(context),
            f"What has happened in the context {context}, kept for ever.",
            [cls.TYPE for cls in classes],
        )
        operations[f"relay_{context}"] = _operation("send", context, "The relay of the context.")
    for band in Band:
        asked: list[type[Event]] = [AnswerRequested, AnswerAskedAgain]
        if band is Band.PRIORITY:
            asked.append(AnswerCancelRequested)
        name = f"answers_{band.value}"
        summary = f"Work of the band {band.value}: answers asked for, once or again"
        cancels = ", and cancels of every band." if band is Band.PRIORITY else "."
        channels[name] = _channel(topics.work(band), summary + cancels, [cls.TYPE for cls in asked])
        operations[f"relay_{name}"] = _operation("send", name, "The relay of conversations.")
        operations[f"take_{name}"] = _operation("receive", name, "The answering workers.")
    kinds = [f"tokens.{kind}" for kind in token_schemas()]
    channels["tokens"] = _channel(topics.tokens, "What the models say, for some hours.", kinds)
    operations["say"] = _operation("send", "tokens", "The answering workers.")
    operations["record"] = _operation("receive", "tokens", "The recorder, gateways and workers.")
    kinds = [f"workers.{kind}" for kind in worker_schemas()]
    channels["workers"] = _channel(
        topics.workers, "What answering workers say of themselves, for an hour.", kinds
    )
    operations["share"] = _operation("send", "workers", "The answering workers.")
    channels["decisions"] = _channel(
        topics.decisions, "What workers decided about answers, for a week.", ["decisions"]
    )
    operations["decide"] = _operation("send", "decisions", "The answering workers.")
    operations["hear"] = _operation("receive", "workers", "The answering workers, and gateways.")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Thalweg",
            "version": version("thalweg"),
            "description": DESCRIPTION,
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{kafka}",
                "protocol": "kafka",
                "variables": {"kafka": {"default": "127.0.0.1:9092"}},
                "description": "What THALWEG_KAFKA names, else the one that `thalweg ps` shows.",
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {
                **{cls.TYPE: _event(cls) for cls in EVENT_CLASSES},
                **{
                    f"tokens.{kind}": _record(f"tokens.{kind}", one, "the conversation's id")
                    for kind, one in token_schemas().items()
                },
                "decisions": _record(
                    "decisions", decisions_schema(), "the answer's id, or the engine's name"
                ),
                **{
                    f"workers.{kind}": _record(f"workers.{kind}", one, "the worker's name")
                    for kind, one in worker_schemas().items()
                },
            },
            "schemas": {"cloudevent": headers_schema()},
        },
    }


def _channel(address: str, description: str, messages: list[str]) -> dict[str, Any]:
    return {
        "address": address,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _event(cls: type[Event]) -> dict[str, Any]:
    return {
        "name": cls.TYPE,
        "title": cls.__name__,
        "summary": " ".join((cls.__doc__ or "").split()),
        "headers": {"$ref": "#/components/schemas/cloudevent"},
        "payload": _payload(cls.TYPE),
        "bindings": _key("the stream's id"),
    }


def _record(name: str, schema: dict[str, Any], key: str) -> dict[str, Any]:
    return {
        "name": name,
        "title": schema["title"],
        "summary": schema["description"],
        "payload": _payload(name),
        "bindings": _key(key),
    }


def _payload(name: str) -> dict[str, Any]:
    return {"schemaFormat": JSON_SCHEMA, "schema": {"$ref": f"./schemas/{name}.json"}}


def _key(meaning: str) -> dict[str, Any]:
    return {"kafka": {"key": {"type": "string", "description": meaning}, "bindingVersion": "0.5.0"}}
