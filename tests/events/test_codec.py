"""Whatever can be said can be written down and read again, and nothing else can be read."""

from dataclasses import replace
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.answers import Entry, TokenRecord
from events.catalog import BY_TYPE, EVENT_CLASSES
from events.codec import (
    TENANT_WITHIN_BYTES,
    Undecodable,
    decode_data,
    decode_entry,
    decode_kept,
    decode_stored,
    decode_token_record,
    encode_entry,
    encode_stored,
    encode_token_record,
    from_cloudevent,
    tenant_mark,
    to_cloudevent,
    to_cloudevent_json,
)
from events.envelope import Recorded
from tests.events.strategies import EVENTS, any_entries, recorded, token_records


def test_the_strategies_know_every_event_there_is() -> None:
    assert set(EVENTS) == set(EVENT_CLASSES)


def test_types_are_unique_and_name_their_context() -> None:
    assert len(BY_TYPE) == len(EVENT_CLASSES)
    for cls in EVENT_CLASSES:
        assert cls.TYPE.split(".")[:2] == ["thalweg", cls.context()]


@given(recorded)
def test_a_stored_event_comes_back_as_it_was(one: Recorded) -> None:
    state = encode_stored(one)
    assert decode_stored(one.stream, one.position, one.event.TYPE, state) == one


@given(recorded)
def test_a_cloudevent_comes_back_as_it_was(one: Recorded) -> None:
    key, headers, value = to_cloudevent(one)
    assert key == str(one.stream).encode()
    assert from_cloudevent(headers, value) == one


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@given(one=recorded, data=st.data())
def test_what_is_read_in_one_pass_is_what_is_read_step_by_step(
    one: Recorded, data: st.DataObject
) -> None:
    """Whole, and with a field that is missing or is something else."""
    _, headers, value = to_cloudevent(one)
    cls, fields = type(one.event), orjson.loads(value)
    name = data.draw(st.sampled_from(sorted(fields)))
    without = {key: each for key, each in fields.items() if key != name}
    for put in (fields, without, {**fields, name: data.draw(json_values)}):
        try:
            wanted = decode_kept(cls.TYPE, cls.VERSION, put)[0]
        except Undecodable:
            with pytest.raises(Undecodable):
                from_cloudevent(headers, orjson.dumps(put))
        else:
            assert from_cloudevent(headers, orjson.dumps(put)).event == wanted


@given(recorded)
def test_a_cloudevent_is_one_by_the_book(one: Recorded) -> None:
    """https://github.com/cloudevents/spec: what must be there, and names that may be."""
    _, headers, value = to_cloudevent(one)
    names = [name for name, _ in headers]
    assert len(names) == len(set(names))
    assert {"ce_specversion", "ce_id", "ce_source", "ce_type", "content-type"} <= set(names)
    for name in set(names) - {"content-type"}:
        assert name.removeprefix("ce_").isalnum()
        assert name == name.lower()
        assert len(name.removeprefix("ce_")) <= 20
    assert isinstance(orjson.loads(value), dict)


@given(one=recorded, sealed=st.none() | st.just("sealed"))
def test_a_cloudevent_in_json_says_the_same_as_one_in_headers(
    one: Recorded, sealed: str | None
) -> None:
    fields = orjson.loads(to_cloudevent_json(replace(one, sealed=sealed), logposition="7"))
    data = fields.pop("data")
    assert fields.pop("logposition") == "7"
    assert fields.pop("datacontenttype") == "application/json"
    assert fields.pop("sealed", False) is (sealed is not None)
    assert all(type(value) is str for value in fields.values())
    headers = [(f"ce_{name}", value.encode()) for name, value in fields.items()]
    assert from_cloudevent(headers, orjson.dumps(data)) == one


@given(one=recorded, other=st.uuids())
def test_the_mark_of_a_tenant_stands_at_the_begin_of_its_events_only(
    one: Recorded, other: UUID
) -> None:
    """Whatever else they say: quotes within a JSON text are escaped."""
    tenant = one.meta.tenant
    one = replace(one, meta=replace(one.meta, command=tenant_mark(other).decode()))
    begin = encode_stored(one)[:TENANT_WITHIN_BYTES]
    assert tenant_mark(tenant) in begin
    assert (tenant_mark(other) in begin) is (other == tenant)


@given(token_records)
def test_a_token_record_comes_back_as_it_was(record: TokenRecord) -> None:
    assert decode_token_record(encode_token_record(record)) == record


@given(any_entries)
def test_an_entry_comes_back_as_it_was(entry: Entry) -> None:
    assert decode_entry(encode_entry(entry)) == entry


rubbish = st.binary(max_size=40) | json_values.map(orjson.dumps)


@given(rubbish)
def test_rubbish_is_refused_and_never_crashes_a_reader(value: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_token_record(value)
    with pytest.raises(Undecodable):
        decode_entry(value)
    with pytest.raises(Undecodable):
        from_cloudevent([("ce_type", b"thalweg.accounts.tenant_created")], value)


@given(one=recorded, value=rubbish)
def test_a_damaged_row_is_refused(one: Recorded, value: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_stored(one.stream, one.position, one.event.TYPE, value)


@given(st.one_of(token_records), st.data())
def test_a_token_record_that_lacks_a_field_or_has_a_wrong_one_is_refused(
    record: TokenRecord, data: st.DataObject
) -> None:
    fields = orjson.loads(encode_token_record(record))
    free = {"seam", "token_ids", "logprobs", "error", "reason", "worker", "model"}
    needed = sorted(set(fields) - free)
    del fields[data.draw(st.sampled_from(needed))]
    with pytest.raises(Undecodable):
        decode_token_record(orjson.dumps(fields))


@pytest.mark.parametrize("value", [None, b"", b"null", b"[]", b"1", b'"text"', b"\xff"])
def test_an_empty_or_foreign_record_is_refused(value: bytes | None) -> None:
    with pytest.raises(Undecodable):
        decode_token_record(value)
    with pytest.raises(Undecodable):
        from_cloudevent(None, value)


@pytest.mark.parametrize("event_type", sorted(BY_TYPE))
def test_what_cannot_be_read_is_not_repeated(event_type: str) -> None:
    """The words of `Undecodable` go to logs and dead letters."""
    secret = "the words of somebody"
    fields = {name: [secret] for name in [*BY_TYPE[event_type].model_fields, "other"]}
    with pytest.raises(Undecodable) as refused:
        decode_data(event_type, 1, {**fields, "usage": {"prompt_tokens": secret}})
    assert secret not in str(refused.value)
    end = {"kind": "finish", "reason": "stop", "error": None, "usage": {"prompt_tokens": secret}}
    with pytest.raises(Undecodable) as refused:
        decode_entry(orjson.dumps({"index": 0, "text": secret, "end": end}))
    assert secret not in str(refused.value)
