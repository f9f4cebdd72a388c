"""Reads fields of a JSON object with the strictness of TGI's reader: a wrong type is an error,
null is the same as leaving a field out, and unknown fields are ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

import orjson

from infra.local_engine.errors import BadBody, MissingField, WrongType

JsonObject = Mapping[str, object]
T = TypeVar("T", bool, int, float, str)

NAMES = {bool: "a boolean", int: "usize", float: "f32", str: "a string"}


def read_object(body: bytes) -> JsonObject:
    """The body as a JSON object. Raises BadBody in the words of TGI's reader."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason, column = error.msg, error.colno
        if at_the_end(body, error):
            reason, column = "EOF while parsing a value", len(body.split(b"\n")[-1])
        raise BadBody(
            400,
            f"Failed to parse the request body as JSON: {reason} "
            f"at line {error.lineno} column {column}",
        ) from error
    if not isinstance(value, dict):
        raise WrongType("", value, "a map")
    return value


def at_the_end(body: bytes, error: json.JSONDecodeError) -> bool:
    """Whether the JSON was cut off, rather than wrong."""
    return error.pos >= len(body.decode("utf-8", "replace").rstrip()) - 1


def optional(data: JsonObject, name: str, kind: type[T], prefix: str = "") -> T | None:
    """A field's value, or None if it is null or not there."""
    value = data.get(name)
    if value is None:
        return None
    if kind is float and type(value) is int:
        return kind(value)
    if type(value) is not kind:
        raise WrongType(prefix + name, value, NAMES[kind])
    if kind is int and isinstance(value, int) and value < 0:
        raise WrongType(prefix + name, value, "u32")
    return value


def required(data: JsonObject, name: str, kind: type[T]) -> T:
    """A field's value; it must be there."""
    if name not in data:
        raise MissingField(name)
    value = optional(data, name, kind)
    if value is None:
        raise WrongType(name, None, NAMES[kind])
    return value


def strings(data: JsonObject, name: str, prefix: str = "") -> tuple[str, ...]:
    """A list of strings; none if it is null or not there."""
    value = data.get(name)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise WrongType(prefix + name, value, "a sequence")
    for item in value:
        if not isinstance(item, str):
            raise WrongType(prefix + name, item, "a string")
    return tuple(value)


def objects(data: JsonObject, name: str) -> list[JsonObject]:
    """A list of objects that must be there."""
    if name not in data:
        raise MissingField(name)
    value = data[name]
    if not isinstance(value, list):
        raise WrongType(name, value, "a sequence")
    for item in value:
        if not isinstance(item, dict):
            raise WrongType(name, item, "a map")
    return value


def an_object(data: JsonObject, name: str) -> JsonObject:
    """An object; an empty one if it is null or not there."""
    value = data.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise WrongType(name, value, "a map")
    return value
