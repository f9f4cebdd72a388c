"""What the adapters ask an engine: never what it is known to refuse."""

import re
from dataclasses import replace
from typing import Any

import orjson
import pytest

from events import trace
from events.conversations import Sampling
from infra.engines.openai import OpenAiEngine
from infra.engines.openai_wire import Chunk, chat_body, read_chunk, room_of
from infra.engines.tgi import NEW_TOKENS_MAX, TgiEngine
from infra.engines.tgi_wire import Event, generate_body, read_event
from processors.answers.engine import EngineRefused, Token
from tests.contracts.engines import recordings
from tests.contracts.engines.drive import PATIENT, Failed, outcome, prompt
from tests.contracts.engines.replay import Bytes, ReplayServer


def parameters(**sampling: Any) -> dict[str, Any]:
    made = generate_body("x", Sampling(max_tokens=9, **sampling), 9)["parameters"]
    assert made.pop("details") is True
    assert made.pop("max_new_tokens") == 9
    return dict(made)


@pytest.mark.parametrize(
    ("sampling", "asked"),
    [
        ({}, {}),
        ({"temperature": 0.0}, {"do_sample": False}),
        ({"temperature": 0.0, "top_p": 0.5}, {"do_sample": False}),
        ({"temperature": 1.0}, {"do_sample": True, "temperature": 1.0}),
        ({"temperature": 0.7, "top_p": 1.0}, {"do_sample": True, "temperature": 0.7}),
        ({"top_p": 0.9}, {"top_p": 0.9}),
        ({"seed": -1}, {"seed": 2**64 - 1}),
        ({"stop": tuple("abcde")}, {"stop": list("abcd")}),
        ({"frequency_penalty": 0.5, "presence_penalty": 0.0}, {"frequency_penalty": 0.5}),
        ({"frequency_penalty": 0.0}, {}),
        ({"logprobs": True}, {}),
        ({"logprobs": True, "top_logprobs": 3}, {"top_n_tokens": 3}),
        ({"top_logprobs": 3}, {}),
    ],
)
def test_sampling_is_said_as_tgi_takes_it(sampling: dict[str, Any], asked: dict[str, Any]) -> None:
    assert parameters(**sampling) == asked


async def test_tgi_is_asked_for_1024_tokens_at_most_without_the_written_bos() -> None:
    whole = Bytes(recordings.read("07_generate_stream_details")[0].received)
    async with ReplayServer(whole) as server:
        engine = TgiEngine(server.url, PATIENT, tokens_per_call_max=100_000)
        await outcome(engine, prompt("hello w4", said=" w5", tokens_max=5_000))
        await engine.close()
        assert server.asked["/generate_stream"] == 1
        body = orjson.loads(server.bodies[0])
    assert body["inputs"] == "<|user|>hello w4<|end|><|assistant|> w5"
    assert body["parameters"]["max_new_tokens"] == NEW_TOKENS_MAX == 1_024


async def test_an_openai_engine_is_asked_to_continue_its_last_message() -> None:
    whole = Bytes(recordings.read("21_chat_stream_usage")[0].received)
    async with ReplayServer(whole) as server:
        engine = OpenAiEngine(server.url + "/v1", PATIENT)
        await outcome(engine, prompt("q", said=" w5 ", sampling=Sampling(max_tokens=9, top_p=1.0)))
        await engine.close()
        body = orjson.loads(server.bodies[0])
    assert body == {
        "model": "stand-in-model",
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": " w5 "}],
        "max_tokens": 100,
        "stream": True,
        "stream_options": {"include_usage": True},
        "add_generation_prompt": False,
        "continue_final_message": True,
    }


async def test_an_openai_engine_speaks_the_model_that_was_asked_for() -> None:
    whole = Bytes(recordings.read("21_chat_stream_usage")[0].received)
    async with ReplayServer(whole) as server:
        engine = OpenAiEngine(server.url + "/v1", PATIENT)
        await outcome(engine, replace(prompt("q"), model="its-second-model"))
        await engine.close()
        assert orjson.loads(server.bodies[0])["model"] == "its-second-model"


@pytest.mark.parametrize(("said", "error"), [(" w5", "CannotContinue"), ("", "EngineRefused")])
async def test_an_openai_engine_that_cannot_continue_says_so(said: str, error: str) -> None:
    text = b'{"error":{"message":"continue_final_message is not supported","code":400}}'
    refused = Bytes(b"HTTP/1.1 400 No\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))
    async with ReplayServer(refused) as server:
        engine = OpenAiEngine(server.url + "/v1", PATIENT)
        assert await outcome(engine, prompt("q", said=said)) == Failed(error)
        await engine.close()


@pytest.mark.parametrize(
    ("refusal", "room"),
    [
        (
            "This model's maximum context length is 4096 tokens. However, you requested 4200 "
            "tokens (4000 in the messages, 200 in the completion).",
            96,
        ),
        (
            "'max_tokens' is too large: 4000. This model's maximum context length is 4096 tokens "
            "and your request has 1000 input tokens (4000 > 4096 - 1000).",
            3_096,
        ),
        ("the request exceeds the available context size, try to increase it", 0),
        ("Input validation error: `inputs` must have less than 4095 tokens. Given: 5000", 0),
        ("temperature must be positive", None),
    ],
)
def test_a_full_context_is_recognised(refusal: str, room: int | None) -> None:
    assert room_of(refusal) == room


@pytest.mark.parametrize("path", ["/chat_tokenize", "/generate_stream"])
async def test_every_call_of_an_answer_carries_its_trace(path: str) -> None:
    whole = Bytes(recordings.read("07_generate_stream_details")[0].received)
    traceparent = trace.new_traceparent()
    async with ReplayServer(whole) as server:
        engine = TgiEngine(server.url, PATIENT)
        with trace.within(traceparent):
            await outcome(engine, prompt("hello w4"))
        await engine.close()
        found = re.search(rb"\r\ntraceparent: (\S+)\r\n", server.heads[path])
    assert found is not None
    assert found[1].decode() == traceparent, "a parent that is sent, and so known to collectors"


@pytest.mark.parametrize(
    ("sampling", "asked"),
    [
        ({"frequency_penalty": -0.5, "presence_penalty": 2.0}, None),
        ({"frequency_penalty": 0.0, "presence_penalty": 0.0}, {}),
        ({"logprobs": True}, None),
        ({"logprobs": True, "top_logprobs": 3}, None),
        ({"top_logprobs": 3}, {}),
    ],
)
def test_an_openai_engine_is_asked_by_openais_names(
    sampling: dict[str, Any], asked: dict[str, Any] | None
) -> None:
    plain = chat_body("m", prompt("q"), 9)
    made = chat_body("m", prompt("q", sampling=Sampling(max_tokens=9, **sampling)), 9)
    assert made == {**plain, **(sampling if asked is None else asked)}


async def test_tgi_has_no_presence_penalty_and_says_so_before_it_is_asked() -> None:
    async with ReplayServer() as server:
        engine = TgiEngine(server.url, PATIENT)
        sampling = Sampling(max_tokens=9, presence_penalty=0.5)
        with pytest.raises(EngineRefused, match="presence_penalty is not supported"):
            await anext(engine.generate(prompt("q", sampling=sampling)))
        await engine.close()
        assert not server.asked


async def test_a_refusal_of_tgi_names_what_our_clients_asked_for() -> None:
    text = b'{"error":"Input validation error: `top_n_tokens` must be >= 0 and <= 3. Given: 5",'
    text += b'"error_type":"validation"}'
    refused = Bytes(b"HTTP/1.1 422 No\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))
    async with ReplayServer(refused) as server:
        engine = TgiEngine(server.url, PATIENT)
        with pytest.raises(EngineRefused, match="`top_logprobs` must be"):
            await anext(engine.generate(prompt("q")))
        await engine.close()


def chunk_with(content: str, logprobs: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "logprobs": logprobs}
    return orjson.dumps({"choices": [choice]})


def row(token: str, logprob: Any = -1.0, **more: Any) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": None, "top_logprobs": [], **more}


@pytest.mark.parametrize(
    ("content", "logprobs", "tokens"),
    [
        ("ab", {"content": [row("a"), row("b", -2)]},
         (Token("a", None, -1.0), Token("b", None, -2.0))),
        ("ab", {"content": [row("a"), row("c")]}, ()),  # they are not what was said
        ("é", {"content": [row("bytes:\\xa9")]}, (Token("é", None, -1.0),)),
        ("a", {"content": [row("a", top_logprobs=[row("a"), {"token": 1}, row("b", -3.0)])]},
         (Token("a", None, -1.0, (("a", -1.0), ("b", -3.0))),)),
        ("a", {"content": [row("a", None)]}, ()),
        ("a", {"content": [row("a", True)]}, ()),
        ("a", {"content": ["a"]}, ()),
        ("a", {"content": None}, ()),
        ("a", {"content": []}, ()),
        ("a", [], ()),
        ("a", None, ()),
        ("", {"content": [row("a")]}, ()),
    ],
)  # fmt: skip
def test_numbers_that_are_not_as_they_should_be_do_not_break_an_answer(
    content: str, logprobs: Any, tokens: tuple[Token, ...]
) -> None:
    read = read_chunk(chunk_with(content, logprobs))
    assert isinstance(read, Chunk)
    assert (read.text, read.logprobs) == (content, tokens)


def test_the_recorded_router_says_the_likeliest_tokens() -> None:
    name = "12_generate_stream_sampled_seed_topn_fulltext"
    lines = recordings.read(name)[0].received.split(b"\n")
    events = [read_event(line[len(b"data:") :]) for line in lines if line.startswith(b"data:")]
    assert [(one.logprob, one.top) for one in events if isinstance(one, Event)] == [
        (-0.5, ((f" w{k}", -0.5),)) for k in range(3)
    ]
