"""docs/asyncapi.yaml and docs/schemas/ are true. `python -m infra.schemas` writes them anew."""

import gzip
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from referencing import Registry

from events.answers import Chunk, Claim, TokenRecord
from events.catalog import BY_TYPE, EVENT_CLASSES
from events.codec import (
    encode_data,
    encode_token_record,
    to_cloudevent,
    to_cloudevent_json,
)
from events.envelope import Recorded
from events.personal import personal_fields
from events.topics import Topics
from infra.kafka.topics import topic_configurations
from infra.schemas.asyncapi import document
from infra.schemas.events import event_schema, headers_schema
from infra.schemas.files import files
from infra.schemas.yaml import as_yaml
from infra.settings import Settings
from tests.events.strategies import EVENTS, recorded, token_records
from tests.house.test_house_rules import ROOT

DOCS = ROOT / "docs"
SPECIFICATION = Path(__file__).parent / "asyncapi" / "3.0.0.json.gz"


@cache
def validator(name: str) -> Draft7Validator:
    return Draft7Validator(json.loads((DOCS / "schemas" / f"{name}.json").read_text()))


def test_the_files_are_those_of_the_program() -> None:
    wanted = files()
    stale = [name for name, text in wanted.items() if (DOCS / name).read_text() != text]
    assert stale == [], "run `python -m infra.schemas`"
    there = {f"schemas/{path.name}" for path in (DOCS / "schemas").iterdir()}
    assert there == set(wanted) - {"asyncapi.yaml"}


def test_the_yaml_says_what_was_meant() -> None:
    assert yaml.safe_load((DOCS / "asyncapi.yaml").read_text()) == document()
    awkward: dict[str, Any] = {
        "no": "yes",
        "a: b": [{}, [], None, 1.5, True, "- x", ""],
        "$ref": {"deep": {"er": ['ö\n\t"', {"x": [[1]]}]}},
    }
    assert yaml.safe_load(as_yaml(awkward)) == awkward


def test_the_document_is_one_by_asyncapis_own_schema() -> None:
    specification = json.loads(gzip.decompress(SPECIFICATION.read_bytes()))
    check = Draft7Validator(specification, registry=Registry())
    assert [error.message for error in check.iter_errors(document())] == []
    wrong = document()
    wrong["channels"]["tokens"]["adress"] = wrong["channels"]["tokens"].pop("address")
    assert not check.is_valid(wrong)


def test_every_reference_leads_somewhere() -> None:
    whole = document()

    def lead(node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                lead(item)
        elif isinstance(node, dict):
            target = node.get("$ref")
            if isinstance(target, str) and target.startswith("#/"):
                found: Any = whole
                for part in target[2:].split("/"):
                    found = found[part]
            elif isinstance(target, str):
                assert (DOCS / target).is_file(), target
            for item in node.values():
                lead(item)

    lead(whole)


def test_every_topic_and_every_event_is_described() -> None:
    whole = document()
    addresses = {channel["address"] for channel in whole["channels"].values()}
    assert addresses == set(topic_configurations(Topics(), Settings()))
    assert set(BY_TYPE) < set(whole["components"]["messages"])
    for cls in EVENT_CLASSES:
        channel = whole["channels"][cls.context()]
        assert cls.TYPE in channel["messages"]


@pytest.mark.parametrize("cls", EVENT_CLASSES, ids=lambda cls: cls.TYPE)
def test_a_schema_describes_what_is_written(cls: Any) -> None:
    check = validator(cls.TYPE)
    Draft7Validator.check_schema(check.schema)

    @settings(max_examples=20)
    @given(event=EVENTS[cls])
    def holds(event: Any) -> None:
        data = orjson.loads(encode_data(event))
        check.validate(data)
        assert not check.is_valid({**data, "other": 1})
        for name in data:
            assert not check.is_valid({key: data[key] for key in data if key != name})

    holds()


@pytest.mark.parametrize("cls", EVENT_CLASSES, ids=lambda cls: cls.TYPE)
@given(data=st.data())
@settings(max_examples=5)
def test_a_sealed_event_has_one_field_in_place_of_its_personal_ones(
    cls: Any, data: st.DataObject
) -> None:
    one = replace(data.draw(recorded), event=data.draw(EVENTS[cls]), sealed="sealed")
    sent = orjson.loads(to_cloudevent(one)[2])
    assert ("sealed" in sent) is bool(personal_fields(cls))
    validator(cls.TYPE).validate(sent)
    validator("line").validate(orjson.loads(to_cloudevent_json(one, logposition="1")))


@given(one=recorded)
@settings(max_examples=50)
def test_attributes_are_those_that_are_written(one: Recorded) -> None:
    validator("line").validate(orjson.loads(to_cloudevent_json(one, logposition="1")))
    headers = {name: value.decode() for name, value in to_cloudevent(one)[1]}
    schema = headers_schema()
    Draft7Validator(schema).validate(headers)
    assert set(headers) <= set(schema["properties"])
    assert set(orjson.loads(to_cloudevent_json(one, logposition="1"))) <= set(
        validator("line").schema["properties"]
    )


@given(record=token_records)
@settings(max_examples=100)
def test_token_records_are_as_described(record: TokenRecord) -> None:
    kind = "claim" if isinstance(record, Claim) else "chunk" if isinstance(record, Chunk) else "end"
    fields = orjson.loads(encode_token_record(record))
    validator(f"tokens.{kind}").validate(fields)
    for name in ("answer", "claim", "kind"):
        assert not validator(f"tokens.{kind}").is_valid({**fields, name: 7})


def test_personal_content_is_marked() -> None:
    schema = event_schema(BY_TYPE["thalweg.conversations.message_posted"])
    marked = [name for name, one in schema["properties"].items() if one.get("x-personal")]
    assert marked == ["content", "attachments"]
