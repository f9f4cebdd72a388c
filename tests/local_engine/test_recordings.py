"""The local engine answers what was asked of a real TGI router in the router's own form."""

import re

import pytest

from tests.local_engine.exchanges import Answer, Recording, connected, exchange, get

# The scripted model behind the real router says other words than ours, so that bodies are compared
# by their shape: keys in order, and types.
SAME_SHAPE = (
    "01_info",
    "02_health",
    "03_models",
    "05_generate_details",
    "06_generate_plain",
    "07_generate_stream_details",
    "08_generate_stream_plain_no_details",
    "15_root_stream_true",
    "16_root_stream_false",
    "20_chat_stream",
    "21_chat_stream_usage",
    "22_chat_plain",
    "26_chat_no_messages_is_accepted",
    "27_completions_stream",
    "28_completions_plain",
    "30_chat_tokenize",
    "31_tokenize",
    "32_generate_stream_of_templated_text",
    "33_generate_stream_of_templated_text_without_bos",
    "34_add_special_tokens_in_body",
    "35_chat_tokenize_assistant_last",
    "36_chat_stream_assistant_last",
    "50_unknown_field",
    "97_health_while_overloaded",
    "96_chat_tokenize_while_overloaded",
    "153_n_2",
    "159_nul_byte_in_input",
    "15B_chat_empty_assistant",
)
# Answers that do not depend on the model, compared byte for byte.
SAME_BYTES = (
    "04_metrics_before_any_request",
    "13_generate_stream_decoder_input_details",
    "14_generate_stream_best_of_2",
    "24_chat_top_p_1_stream",
    "25_chat_top_p_1_plain",
    "43_zero_tokens_stream",
    "44_bad_json",
    "46_no_content_type",
    "47_get_on_generate",
    "48_unknown",
    "49_payload_over_limit",
    "51_health_head",
    "52_options_cors",
    "150_tools_and_format_stream_true",
    "155_empty_input",
    "156_stop_list_of_5",
    "158_temperature_0",
)
# The same but for the number of tokens, which is the tokenizer's.
SAME_BYTES_BUT_NUMBERS = ("40_too_long_stream", "41_too_long_plain", "42_max_new_tokens_huge_plain")
# The same status and type, and a text that begins alike: ours does not count columns, and it
# supports one more role.
SAME_BEGINNING = {
    "45_wrong_type": b"Failed to deserialize the JSON body into the target type: inputs: invalid "
    b"type: integer `5`, expected a string",
    "157_stop_as_string": b"Failed to deserialize the JSON body into the target type: parameters."
    b'stop: invalid type: string "a", expected a sequence',
    "170_template_error_stream_true": b'{"error":"Template error: syntax error: Only ',
    "171_template_error_plain": b'{"error":"Template error: syntax error: Only ',
    "172_template_error_chat_tokenize": b'{"error":"Template error: syntax error: Only ',
}
OVERLOADED = (
    "90_overload_stream",
    "91_overload_plain",
    "92_overload_chat_stream",
    "93_overload_chat_plain",
    "94_overload_completions_stream",
    "95_overload_root_stream",
)
SAME_PROMPT = (
    "15A_chat_last_assistant_blank_tail",
    "15C_assistant_last_short_text_a",
    "15D_assistant_last_text_occurs_in_marker",
    "30_chat_tokenize",
    "35_chat_tokenize_assistant_last",
)
HEADERS_THAT_MATTER = (
    "content-type",
    "cache-control",
    "x-accel-buffering",
    "transfer-encoding",
    "allow",
    "connection",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "vary",
)
# Numbers here, null there (or the other way): the recorded router was started without them.
EITHER = {"sha", "seed"}


def shape(value: object) -> object:
    """Keys in order and types; of a list its first item's."""
    match value:
        case dict():
            return [(key, None if key in EITHER else shape(value[key])) for key in value]
        case list():
            return [shape(value[0])] if value else []
        case bool() | str() | None:
            return type(value).__name__
        case _:
            return "number"


def same_head(ours: Answer, theirs: Answer) -> None:
    assert ours.status == theirs.status
    for name in HEADERS_THAT_MATTER:
        assert ours.headers.get(name) == theirs.headers.get(name), name
    assert ("content-length" in ours.headers) == ("content-length" in theirs.headers)


@pytest.mark.parametrize("name", SAME_SHAPE)
async def test_an_answer_has_the_recorded_shape(name: str, port: int) -> None:
    recording = Recording.named(name)
    ours, theirs = await exchange(port, recording.sent), recording.answer
    same_head(ours, theirs)
    if theirs.streamed:
        assert all(chunk.startswith(b"data: ") for chunk in ours.chunks)
        assert all(chunk.endswith(b"\n\n") and chunk.count(b"\n\n") == 1 for chunk in ours.chunks)
        assert kinds(ours) == kinds(theirs)
    elif theirs.body:
        assert shape(ours.json()) == shape(theirs.json())
    else:
        assert not ours.body


def kinds(answer: Answer) -> list[object]:
    """The shapes of a stream's events, each as often as it follows another."""
    found: list[object] = []
    for event in answer.events():
        if not found or found[-1] != shape(event):
            found.append(shape(event))
    return found


@pytest.mark.parametrize("name", SAME_BYTES)
async def test_an_answer_has_the_recorded_bytes(name: str, port: int) -> None:
    recording = Recording.named(name)
    ours = await exchange(port, recording.sent)
    same_head(ours, recording.answer)
    assert ours.body == recording.answer.body
    assert ours.chunks == recording.answer.chunks


@pytest.mark.parametrize("name", SAME_BYTES_BUT_NUMBERS)
async def test_an_answer_has_the_recorded_bytes_but_for_numbers(name: str, port: int) -> None:
    recording = Recording.named(name)
    ours = await exchange(port, recording.sent)
    same_head(ours, recording.answer)
    numbers = re.compile(rb"\d+")
    assert numbers.sub(b"1", ours.body) == numbers.sub(b"1", recording.answer.body)


@pytest.mark.parametrize("name", SAME_BEGINNING)
async def test_an_answer_begins_like_the_recorded_one(name: str, port: int) -> None:
    recording = Recording.named(name)
    ours = await exchange(port, recording.sent)
    same_head(ours, recording.answer)
    beginning = SAME_BEGINNING[name]
    assert recording.answer.body.startswith(beginning)
    assert ours.body.startswith(beginning)


@pytest.mark.parametrize("name", OVERLOADED)
async def test_an_overloaded_engine_answers_as_recorded(name: str, full_port: int) -> None:
    recording = Recording.named(name)
    ours = await exchange(full_port, recording.sent)
    same_head(ours, recording.answer)
    assert ours.chunks == recording.answer.chunks
    assert ours.body == recording.answer.body


@pytest.mark.parametrize("name", SAME_PROMPT)
async def test_messages_are_rendered_as_recorded(name: str, port: int) -> None:
    recording = Recording.named(name)
    ours = await exchange(port, recording.sent)
    assert ours.json()["templated_text"] == recording.answer.json()["templated_text"]


async def test_a_connection_serves_again_after_a_stream(port: int) -> None:
    recording = Recording.named("54_connection_reuse_after_a_stream")
    async with connected(port) as (reader, writer):
        writer.write(recording.sent)
        await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.write(get("/health"))
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 200 OK\r\n")
