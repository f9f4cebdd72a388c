"""Which fields of an event are personal, and how they are sealed, left blank and opened again."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType, NoneType
from typing import Any, get_args, get_origin

import orjson

from events.envelope import Event, PersonalMark, Recorded
from events.sealing import ContentKey, Unopenable, parse, seal, unseal

_BLANKS: dict[type, object] = {str: "", dict: {}, tuple: ()}


@cache
def personal_fields(cls: type[Event]) -> Mapping[str, object]:
    """Its fields with personal content, each with its blank."""
    return MappingProxyType(
        {
            name: _blank(field.annotation)
            for name, field in cls.model_fields.items()
            if any(isinstance(mark, PersonalMark) for mark in field.metadata)
        }
    )


def _blank(annotation: Any) -> object:
    if NoneType in get_args(annotation):
        return None
    return _BLANKS[get_origin(annotation) or annotation]


def sealed_fields(recorded: Recorded, key: ContentKey) -> str:
    """The personal fields of an event, sealed in its place."""
    event = recorded.event
    fields = event.model_dump(mode="json", include=set(personal_fields(type(event))))
    return seal(key, event.VERSION, orjson.dumps(fields), _place(recorded))


def with_fields(recorded: Recorded, key: ContentKey) -> Recorded:
    """The whole event again. Raises Unopenable, and ValueError for fields that are not its own."""
    if recorded.sealed is None:
        return replace(recorded, key=key)
    event, sealed = recorded.event, parse(recorded.sealed)
    cls = type(event)
    if sealed.version > cls.VERSION:
        raise Unopenable(f"it was sealed as version {sealed.version}; update this program")
    fields = orjson.loads(unseal(key, sealed, _place(recorded)))
    for step in range(sealed.version, cls.VERSION):
        fields = cls.UPCASTERS[step](fields)
    personal = {name: fields.get(name, blank) for name, blank in personal_fields(cls).items()}
    whole = cls.model_validate({**event.model_dump(), **personal})
    return replace(recorded, event=whole, sealed=None, key=key)


def _place(recorded: Recorded) -> bytes:
    """What sealed fields belong to: no row can take another's place."""
    return f"{recorded.event.TYPE}\n{recorded.stream}\n{recorded.position}".encode()
