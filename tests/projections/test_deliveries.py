"""What a projection reads of a record before it decides whether to read all of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.codec import to_cloudevent
from projections.deliveries import delivery, pack_headers, unpack_headers
from projections.tables import Tables
from tests.contracts.projections.deliver import a_conversation


def test_a_delivery_knows_stream_position_and_type_and_decodes_to_what_was_sent() -> None:
    for recorded in a_conversation():
        _, headers, value = to_cloudevent(recorded)
        one = delivery("t", 1, 2, headers, value)
        assert (one.stream, one.position) == (recorded.stream, recorded.position)
        assert one.type_name == recorded.event.TYPE
        assert one.decode() == recorded


@pytest.mark.parametrize(
    "headers",
    [
        None,
        [("ce_subject", b"\xff"), ("ce_sequence", b"1")],
        [("ce_subject", b"7b7e6f0e-0000-7000-8000-000000000000"), ("ce_sequence", b"0")],
        [("ce_subject", b"7b7e6f0e-0000-7000-8000-000000000000"), ("ce_sequence", b"x")],
    ],
)
def test_a_damaged_envelope_belongs_to_no_stream(headers: list[tuple[str, bytes]] | None) -> None:
    assert delivery("t", 1, 2, headers, b"{}").stream is None


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.binary())))
def test_headers_come_back_from_a_dead_letter(headers: list[tuple[str, bytes]]) -> None:
    assert unpack_headers(pack_headers(headers)) == headers


def test_a_version_has_tables_of_its_own() -> None:
    assert Tables("answers", 2).table("positions").as_string() == '"answers_v2_positions"'
