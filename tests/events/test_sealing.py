"""Sealed events: with the key whole, without it blank, and in no other place than their own."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from events.catalog import EVENT_CLASSES
from events.codec import (
    SEALED,
    Undecodable,
    decode_stored,
    encode_data,
    encode_kept,
    encode_stored,
    from_cloudevent,
    opened,
    to_cloudevent,
)
from events.conversations import AnswerEnded, ConversationStarted, MessagePosted
from events.envelope import Event, Meta, Recorded
from events.personal import personal_fields
from events.sealing import ContentKey, Unopenable, fresh_key, parse, seal, unseal
from tests.events.strategies import recorded

keys = st.builds(ContentKey, st.uuids(), st.binary(min_size=32, max_size=32))


@st.composite
def sealed_events(draw: st.DrawFn) -> tuple[Recorded, ContentKey]:
    """An event with personal fields, and the key of its stream."""
    one = draw(recorded.filter(lambda one: bool(personal_fields(type(one.event)))))
    key = draw(keys)
    return replace(one, key=key), key


def blank(event: Event) -> Event:
    return event.model_copy(update=dict(personal_fields(type(event))))


def stored(one: Recorded) -> Recorded:
    return decode_stored(one.stream, one.position, one.event.TYPE, encode_stored(one))


def sent(one: Recorded) -> Recorded:
    return from_cloudevent(*to_cloudevent(one)[1:])


@pytest.mark.parametrize("cls", EVENT_CLASSES)
def test_no_event_calls_a_field_of_its_own_sealed(cls: type[Event]) -> None:
    assert SEALED not in cls.model_fields


def test_what_people_say_is_personal() -> None:
    assert dict(personal_fields(MessagePosted)) == {"content": "", "attachments": ()}
    assert dict(personal_fields(AnswerEnded)) == {"text": "", "logprobs": None}
    assert dict(personal_fields(ConversationStarted)) == {"title": None, "metadata": {}}


@given(sealed_events(), st.sampled_from([stored, sent]))
def test_with_the_key_the_whole_event_comes_back(
    given_: tuple[Recorded, ContentKey], through: Any
) -> None:
    one, key = given_
    assert opened(through(one), key) == one
    assert opened(through(one), key).key == key


@given(sealed_events(), st.sampled_from([stored, sent]))
def test_without_the_key_personal_fields_are_blank_and_it_is_said(
    given_: tuple[Recorded, ContentKey], through: Any
) -> None:
    one, key = given_
    found = through(one)
    assert found.event == blank(one.event)
    assert found.sealed is not None
    assert parse(found.sealed).key == key.id
    assert replace(found, event=one.event, sealed=None) == one


@given(sealed_events())
def test_a_sealed_event_is_written_again_as_it_was(given_: tuple[Recorded, ContentKey]) -> None:
    one, key = given_
    state = encode_stored(one)
    found = decode_stored(one.stream, one.position, one.event.TYPE, state)
    assert encode_stored(found) == state
    assert opened(sent(found), key) == one
    assert to_cloudevent(sent(found)) == to_cloudevent(found)


@given(sealed_events())
def test_the_words_are_not_in_the_bytes(given_: tuple[Recorded, ContentKey]) -> None:
    one, _ = given_
    words = "so kept between us"
    said = replace(one, event=MessagePosted(**_message_fields(words)))
    assert words.encode() in encode_data(said.event)
    for written in (encode_stored(said), to_cloudevent(said)[2]):
        assert words.encode() not in written
        assert b'"content"' not in written


def _message_fields(content: str) -> dict[str, Any]:
    one = UUID(int=1)
    return {
        "conversation": one,
        "message": one,
        "role": "user",
        "content": content,
        "parent": None,
    }


@given(recorded, keys)
def test_an_event_without_personal_fields_is_not_sealed(one: Recorded, key: ContentKey) -> None:
    assume(not personal_fields(type(one.event)))
    found = stored(replace(one, key=key))
    assert found == one
    assert opened(found, key) == one


@given(recorded)
def test_without_a_key_nothing_is_sealed(one: Recorded) -> None:
    assert encode_kept(one) == encode_data(one.event)


@given(sealed_events(), st.data())
def test_a_changed_bit_is_refused(given_: tuple[Recorded, ContentKey], data: st.DataObject) -> None:
    one, key = given_
    found = stored(one)
    assert found.sealed is not None
    parts = parse(found.sealed)
    at = data.draw(st.integers(0, len(parts.box) * 8 - 1))
    box = bytearray(parts.box)
    box[at // 8] ^= 1 << at % 8
    with pytest.raises(Unopenable):
        unseal(key, replace(parts, box=bytes(box)), place_of(one))
    with pytest.raises(Unopenable):
        unseal(key, replace(parts, version=parts.version + 1), place_of(one))


def place_of(one: Recorded) -> bytes:
    return f"{one.event.TYPE}\n{one.stream}\n{one.position}".encode()


@given(sealed_events(), st.sampled_from(["position", "stream"]))
def test_a_row_in_anothers_place_is_refused(given_: tuple[Recorded, ContentKey], what: str) -> None:
    one, key = given_
    other = {"position": one.position + 1, "stream": UUID(int=one.stream.int ^ 1)}[what]
    moved = replace(stored(one), **{what: other})
    with pytest.raises(Undecodable):
        opened(moved, key)


def test_a_row_of_another_type_is_refused() -> None:
    """Both have a title that may be None, so the fields alone would not tell."""
    key = fresh_key(UUID(int=3))
    sealed = seal(key, 1, b'{"title":null}', b"thalweg.one\nstream\n1")
    with pytest.raises(Unopenable):
        unseal(key, parse(sealed), b"thalweg.other\nstream\n1")


@given(sealed_events(), keys)
def test_another_key_opens_nothing(given_: tuple[Recorded, ContentKey], other: ContentKey) -> None:
    one, key = given_
    assume(other.secret != key.secret)
    with pytest.raises(Undecodable):
        opened(stored(one), other)


@given(sealed_events(), st.none() | st.integers() | st.text() | st.lists(st.text()))
def test_rubbish_in_place_of_sealed_text_is_refused(
    given_: tuple[Recorded, ContentKey], rubbish: object
) -> None:
    one, _ = given_
    fields = orjson.loads(encode_stored(one))
    try:
        fields["data"][SEALED] = rubbish
        state = orjson.dumps(fields)
    except TypeError:  # more digits than JSON has
        return
    with pytest.raises(Undecodable):
        decode_stored(one.stream, one.position, one.event.TYPE, state)


@given(sealed_events())
def test_fields_that_are_both_open_and_sealed_are_refused(
    given_: tuple[Recorded, ContentKey],
) -> None:
    one, _ = given_
    fields = orjson.loads(encode_stored(one))
    fields["data"] |= orjson.loads(encode_data(one.event))
    with pytest.raises(Undecodable):
        decode_stored(one.stream, one.position, one.event.TYPE, orjson.dumps(fields))


def test_what_was_sealed_by_an_older_version_opens_with_the_new_fields() -> None:
    """MessagePosted had no attachments in its first version."""
    key = fresh_key(UUID(int=5))
    at = Recorded(UUID(int=1), UUID(int=2), 7, _meta(), MessagePosted(**_message_fields("hello")))
    sealed = seal(key, 1, b'{"content":"hello"}', place_of(at))
    fields = orjson.loads(encode_stored(at))
    fields["version"] = 1
    for name in ("content", "attachments", "edits"):
        del fields["data"][name]
    fields["data"][SEALED] = sealed
    row = orjson.dumps(fields)
    found = decode_stored(at.stream, at.position, at.event.TYPE, row)
    assert found.sealed == sealed
    assert opened(found, key) == at
    assert opened(stored(found), key) == at, "the relay writes it again, as today's version"


def _meta() -> Meta:
    return Meta(
        UUID(int=6), "c", "tester", "somebody", datetime(2026, 11, 1, tzinfo=UTC), UUID(int=8)
    )


def test_a_key_does_not_show_itself() -> None:
    key = fresh_key(UUID(int=9))
    assert key.secret.hex() not in repr(key)
    assert str(key.secret) not in repr(key)
