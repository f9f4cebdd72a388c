"""All encoding and decoding: stored events, CloudEvents on Kafka, token records, Redis entries.

One place, so that encryption of personal content has one place too: what leaves a process is kept
in the form of `encode_kept`. Every decoder raises `Undecodable` for what it cannot read, and never
imports anything by a name found in the data.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

import orjson
from pydantic import ValidationError

from events.answers import Chunk, Claim, ClaimId, End, Entry, EntryEnd, Logprobs, TokenRecord
from events.catalog import BY_TYPE
from events.conversations import EndKind, TokenLogprob, Usage
from events.envelope import Event, Meta, Recorded
from events.ids import AnswerId, parse_id
from events.personal import personal_fields, sealed_fields, with_fields
from events.sealing import ContentKey, Unopenable, parse

SEALED = "sealed"
"""The field of a sealed event's data that stands for its personal ones."""
SEALED_MARK = b'"sealed"'
"""Stands in the JSON of every sealed event; in that of others hardly ever."""
NO_BLANKS: Mapping[str, object] = {}
Headers = list[tuple[str, bytes]]
T = TypeVar("T")


class Undecodable(Exception):
    """Bytes that are not what they should be. The message says what was expected."""


# Events -----------------------------------------------------------------------------------------


def encode_data(event: Event) -> bytes:
    """The JSON of an event's own fields, none of them sealed."""
    return event.__pydantic_serializer__.to_json(event)


def encode_kept(recorded: Recorded) -> bytes:
    """The JSON of an event's fields as it is stored and sent: with a key, personal ones sealed.

    What was decoded sealed is written as it was.
    """
    event, key = recorded.event, recorded.key
    names = personal_fields(type(event)) if key is not None or recorded.sealed is not None else ()
    if not names:
        return encode_data(event)
    fields = event.model_dump(mode="json", exclude=set(names))
    fields[SEALED] = recorded.sealed
    if key is not None and recorded.sealed is None:
        fields[SEALED] = sealed_fields(recorded, key)
    return orjson.dumps(fields)


def decode_kept(type_name: str, version: int, data: dict[str, Any]) -> tuple[Event, str | None]:
    """The inverse of `encode_kept`: an event, and what stands for its blank fields, if they are.

    Raises Undecodable.
    """
    if not isinstance(data, dict) or SEALED not in data:
        return decode_data(type_name, version, data), None
    names = personal_fields(_class_of(type_name, version))
    fields = {name: value for name, value in data.items() if name != SEALED}
    if not names or names.keys() & fields.keys():
        raise Undecodable(f"{type_name} version {version} has other fields sealed than it should")
    try:
        parse(data[SEALED])
    except Unopenable as error:
        raise Undecodable(f"{type_name} version {version}: {error}") from error
    return decode_data(type_name, version, fields, names), data[SEALED]


def opened(recorded: Recorded, key: ContentKey) -> Recorded:
    """The event with its personal fields again. Raises Undecodable if the key does not fit."""
    try:
        return with_fields(recorded, key)
    except (Unopenable, ValueError, KeyError, TypeError, AttributeError) as error:
        where = f"{recorded.stream}:{recorded.position}"
        why = str(error) if isinstance(error, Unopenable) else type(error).__name__
        raise Undecodable(f"event {where} can't be opened: {why}") from None


def decode_data(
    type_name: str, version: int, data: dict[str, Any], blanks: Mapping[str, object] = NO_BLANKS
) -> Event:
    """The event of that type, brought up to today's version. Raises Undecodable."""
    cls = _class_of(type_name, version)
    try:
        for step in range(version, cls.VERSION):
            data = cls.UPCASTERS[step](data)
        return cls.model_validate({**data, **blanks} if blanks else data)
    except (KeyError, TypeError, AttributeError) as error:  # of an upcaster, or there is none
        wrong = f"{type_name} version {version} has wrong fields: {type(error).__name__}"
        raise Undecodable(wrong) from error
    except ValidationError as error:
        raise Undecodable(f"{type_name} version {version} has wrong fields: {error}") from error


def _class_of(type_name: str, version: int) -> type[Event]:
    cls = BY_TYPE.get(type_name)
    if cls is None:
        raise Undecodable(f"unknown event type {type_name!r}; known: {', '.join(sorted(BY_TYPE))}")
    if version > cls.VERSION:
        raise Undecodable(
            f"{type_name} has version {version}, this program knows up to {cls.VERSION}; update it"
        )
    return cls


def encode_stored(recorded: Recorded) -> bytes:
    """The `state` of a row in the event store: envelope and data as one JSON object."""
    meta = recorded.meta
    envelope = {
        "id": str(recorded.id),
        "version": recorded.event.VERSION,
        "tenant": str(meta.tenant),
        "command": meta.command,
        "actor": meta.actor,
        "subject": meta.subject,
        "time": meta.time.isoformat(),
        "correlation": str(meta.correlation),
        "causation": str(meta.causation) if meta.causation else None,
        "traceparent": meta.traceparent,
        "data": orjson.Fragment(encode_kept(recorded)),
    }
    return orjson.dumps(envelope)


TENANT_WITHIN_BYTES = 128
"""So far from the begin of a stored state its tenant stands at most."""


def tenant_mark(tenant: UUID) -> bytes:
    """What stands in the first TENANT_WITHIN_BYTES of each stored event of this tenant, and of no
    other: a store without a column for it can tell quickly which ones need not be decoded."""
    return b'"tenant":"%b"' % str(tenant).encode()


def decode_stored(stream: UUID, position: int, type_name: str, state: bytes) -> Recorded:
    """The inverse of `encode_stored`; stream, position and type have columns of their own."""
    try:
        fields = orjson.loads(state)
        meta = Meta(
            tenant=parse_id(fields["tenant"]),
            command=fields["command"],
            actor=fields["actor"],
            subject=fields["subject"],
            time=datetime.fromisoformat(fields["time"]),
            correlation=parse_id(fields["correlation"]),
            causation=parse_id(fields["causation"]) if fields["causation"] else None,
            traceparent=fields["traceparent"],
        )
        event_id, version, data = parse_id(fields["id"]), int(fields["version"]), fields["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise Undecodable(f"stored event {stream}:{position} is damaged: {error!r}") from error
    return Recorded(event_id, stream, position, meta, *decode_kept(type_name, version, data))


def to_cloudevent(recorded: Recorded) -> tuple[bytes, Headers, bytes]:
    """Key, headers and value: CloudEvents 1.0, Kafka protocol binding, binary mode."""
    headers = [(f"ce_{name}", value.encode()) for name, value in _attributes(recorded).items()]
    headers.append(("content-type", b"application/json"))
    return str(recorded.stream).encode(), headers, encode_kept(recorded)


def to_cloudevent_json(recorded: Recorded, **more: str) -> bytes:
    """CloudEvents 1.0, JSON format: the same attributes, and `more` extension attributes.

    Numbers that may pass 2^31 are strings of digits, as CloudEvents' integers end there.
    """
    event: dict[str, Any] = {**_attributes(recorded), **more, "datacontenttype": "application/json"}
    if recorded.sealed is not None:
        event["sealed"] = True
    return orjson.dumps({**event, "data": orjson.Fragment(encode_data(recorded.event))})


def _attributes(recorded: Recorded) -> dict[str, str]:
    """The context attributes of an event, extensions included."""
    meta, event = recorded.meta, recorded.event
    attributes = {
        "specversion": "1.0",
        "id": str(recorded.id),
        "source": f"/thalweg/{event.context()}",
        "type": event.TYPE,
        "subject": str(recorded.stream),
        "time": meta.time.isoformat(),
        "sequence": str(recorded.position),
        "schemaversion": str(event.VERSION),
        "tenant": str(meta.tenant),
        "datasubject": meta.subject,
        "actor": meta.actor,
        "correlation": str(meta.correlation),
        "command": meta.command,
    }
    if meta.causation is not None:
        attributes["causation"] = str(meta.causation)
    if meta.traceparent is not None:
        attributes["traceparent"] = meta.traceparent
    return attributes


def from_cloudevent(headers: Iterable[tuple[str, bytes]] | None, value: bytes | None) -> Recorded:
    """The inverse of `to_cloudevent`. Raises Undecodable for anything else."""
    return from_attributes(dict(headers or ()), value)


def from_attributes(found: Mapping[str, bytes], value: bytes | None) -> Recorded:
    """`from_cloudevent` of headers that are a mapping already."""

    def text(name: str) -> str:
        return found[name].decode(errors="replace")

    try:
        meta = Meta(
            tenant=parse_id(text("ce_tenant")),
            command=text("ce_command"),
            actor=text("ce_actor"),
            subject=text("ce_datasubject"),
            time=datetime.fromisoformat(text("ce_time")),
            correlation=parse_id(text("ce_correlation")),
            causation=parse_id(text("ce_causation")) if found.get("ce_causation") else None,
            traceparent=text("ce_traceparent") if "ce_traceparent" in found else None,
        )
        event, sealed = _decode_value(text("ce_type"), int(found["ce_schemaversion"]), value or b"")
        stream, position = parse_id(text("ce_subject")), int(found["ce_sequence"])
        return Recorded(parse_id(text("ce_id")), stream, position, meta, event, sealed)
    except (ValueError, KeyError, TypeError) as error:
        raise Undecodable(f"not one of our CloudEvents: {error!r}") from error


def _decode_value(type_name: str, version: int, value: bytes) -> tuple[Event, str | None]:
    """`decode_kept` of JSON. What is of today's version and not sealed is read in one pass, which
    takes half the time: a read model is built from millions of these."""
    cls = _class_of(type_name, version)
    if version != cls.VERSION or SEALED_MARK in value:
        return decode_kept(type_name, version, orjson.loads(value))
    try:
        return cls.model_validate_json(value), None
    except ValidationError as error:
        raise Undecodable(f"{type_name} version {version} has wrong fields: {error}") from error


# Token records ----------------------------------------------------------------------------------


def encode_token_record(record: TokenRecord) -> bytes:
    fields: dict[str, Any] = {
        "answer": str(record.answer),
        "epoch": record.claim.epoch,
        "claim": str(record.claim.id),
    }
    if isinstance(record, Claim):
        fields |= {"kind": "claim", "worker": record.worker, "model": record.model}
        fields |= {"protocol": record.protocol, "traceparent": record.traceparent}
        return orjson.dumps(fields)
    fields |= {"index": record.index, "text": record.text, "tokens": record.tokens}
    if isinstance(record, Chunk):
        fields["kind"] = "chunk"
        if record.seam:
            fields["seam"] = True
        if record.token_ids is not None:
            fields["token_ids"] = record.token_ids
        if record.logprobs:
            fields["logprobs"] = _logprob_rows(record.logprobs)
        return orjson.dumps(fields)
    fields |= {"kind": "end", "how": record.kind.value, "reason": record.reason}
    fields |= {"error": record.error, "usage": record.usage.model_dump()}
    if record.logprobs:
        fields["logprobs"] = _logprob_rows(record.logprobs)
    return orjson.dumps(fields)


IDS_KEPT_MAX = 4_096
"""Ids of answers and claims that were read last: each stands in every record of its answer."""

_id_of = lru_cache(IDS_KEPT_MAX)(UUID)


def decode_token_record(value: bytes | None) -> TokenRecord:
    """The inverse of `encode_token_record`. Raises Undecodable for anything else."""
    try:
        fields = orjson.loads(value or b"")
        answer = AnswerId(_id_of(fields["answer"]))
        claim = ClaimId(_typed(fields["epoch"], int), _id_of(fields["claim"]))
        match fields["kind"]:
            case "chunk":
                ids = fields.get("token_ids")
                return Chunk(
                    answer,
                    claim,
                    _typed(fields["index"], int),
                    _typed(fields["text"], str),
                    _typed(fields["tokens"], int),
                    seam=fields.get("seam", False),
                    token_ids=tuple(ids) if ids is not None else None,
                    logprobs=_logprobs(fields),
                )
            case "claim":
                return Claim(
                    answer,
                    claim,
                    _typed(fields["worker"], str),
                    _typed(fields["model"], str),
                    fields["protocol"],
                    fields["traceparent"],
                )
            case "end":
                return End(
                    answer,
                    claim,
                    _typed(fields["index"], int),
                    EndKind(fields["how"]),
                    _typed(fields["reason"], str),
                    fields["error"] and _typed(fields["error"], str),
                    _typed(fields["text"], str),
                    _typed(fields["tokens"], int),
                    Usage.model_validate(fields["usage"]),
                    _logprobs(fields),
                )
            case kind:
                raise Undecodable(f"unknown kind of token record: {kind!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Undecodable(f"not a token record: {error!r}") from error


def _typed(value: Any, wanted: type[T]) -> T:
    """Readers compare and add what they get: a record with other types must not reach them."""
    if type(value) is not wanted:
        raise TypeError(f"expected {wanted.__name__}, found {type(value).__name__}")
    return value


def _logprob_rows(logprobs: Logprobs) -> list[tuple[object, ...]]:
    """Short, as there is one for each token: [token, logprob, likeliest tokens]."""
    return [(one.token, one.logprob, one.top) for one in logprobs]


def _logprobs(fields: dict[str, Any]) -> Logprobs:
    rows = fields.get("logprobs")
    if rows is None:
        return ()
    return tuple(
        TokenLogprob(token=_typed(token, str), logprob=_typed(logprob, float), top=top)
        for token, logprob, top in rows
    )


# Entries of an answer's stream (Redis) ------------------------------------------------------------


def encode_entry(entry: Entry) -> bytes:
    fields: dict[str, Any] = {"index": entry.index, "text": entry.text}
    if entry.logprobs:
        fields["logprobs"] = _logprob_rows(entry.logprobs)
    if entry.end is not None:
        fields["end"] = {
            "kind": entry.end.kind.value,
            "reason": entry.end.reason,
            "error": entry.end.error,
            "usage": entry.end.usage.model_dump(),
        }
    return orjson.dumps(fields)


def decode_entry(value: bytes) -> Entry:
    """The inverse of `encode_entry`. Raises Undecodable for anything else."""
    try:
        fields = orjson.loads(value)
        end = fields.get("end")
        if end is None:
            return Entry(fields["index"], fields["text"], None, _logprobs(fields))
        usage = Usage.model_validate(end["usage"])
        how = EntryEnd(EndKind(end["kind"]), end["reason"], end["error"], usage)
        return Entry(fields["index"], fields["text"], how, _logprobs(fields))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Undecodable(f"not an entry of an answer's stream: {error!r}") from error
