"""A stream that breaks at any byte is never a success without a finish reason, and never half a
character."""

import pytest

from infra.engines.openai import OpenAiEngine
from infra.engines.sse import EVENT_BYTES_MAX, EventReader, EventTooLong
from infra.engines.tgi import TgiEngine
from tests.contracts.engines import recordings
from tests.contracts.engines.drive import PATIENT, Said, outcome, prompt
from tests.contracts.engines.replay import Bytes, ReplayServer

CUT = {
    "11_generate_stream_utf8_halves": (" w0", "", "é", " w1"),
    "10_generate_stream_eos": (" w0", " w1", " w2"),
    "21b_chat_stream_eos": (" w0", " w1"),
}


@pytest.mark.parametrize("name", CUT)
async def test_a_stream_cut_at_any_byte_fails_with_a_prefix_or_is_whole(name: str) -> None:
    whole = recordings.read(name)[0].received
    finish = whole.index(b'"finish_reason":"')  # the reason itself stands behind it
    async with ReplayServer() as server:
        chat = "chat" in name
        engine = (
            OpenAiEngine(server.url + "/v1", PATIENT) if chat else TgiEngine(server.url, PATIENT)
        )
        for length in range(len(whole) + 1):
            server.script = Bytes(whole[:length])
            came = await outcome(engine, prompt("x", tokens_max=20))
            assert came.tokens == CUT[name][: len(came.tokens)], length
            if isinstance(came, Said):
                assert length > finish, length
                assert came.tokens == CUT[name], length
            else:
                assert came.error == "EngineFailed", length
        assert isinstance(came, Said)
        await engine.close()


@pytest.mark.parametrize("name", CUT)
def test_events_are_the_same_however_the_bytes_are_cut(name: str) -> None:
    body = recordings.read(name)[0].received.partition(b"\r\n\r\n")[2]
    whole = EventReader().feed(body)
    for cut in range(len(body)):
        reader = EventReader()
        assert reader.feed(body[:cut]) + reader.feed(body[cut:]) == whole


def test_only_a_blank_line_ends_an_event() -> None:
    reader = EventReader()
    assert reader.feed(b"id: 1\r\nevent: x\ndata:a\r\n: comment\ndata: b\n") == []
    assert reader.feed(b"\n") == [b"a\nb"]
    assert reader.feed(b"\n\ndata\n\n") == []


@pytest.mark.parametrize("line", [b"data: ", b": ", b"data: x\n"])
def test_an_event_and_a_line_have_a_bound(line: bytes) -> None:
    def feed_for_ever() -> None:
        reader = EventReader()
        for _ in range(EVENT_BYTES_MAX):
            reader.feed(line * 1_000)

    with pytest.raises(EventTooLong):
        feed_for_ever()
