"""Streams of the local engine: what stops them, what they hold, and that they run side by side."""

import asyncio
import json
import threading
import time
from contextlib import aclosing

import pytest

from infra.local_engine import limits
from infra.local_engine.engine import LocalEngine
from infra.local_engine.errors import GenerationFailed, Unhealthy
from infra.local_engine.generation import Generation
from infra.local_engine.parameters import Parameters
from infra.local_engine.text import Speech, bytes_of_letters
from tests.local_engine.exchanges import Answer, connected, exchange, get, post

# At this temperature any token is as likely as any other: the end comes once in 3,000 tokens.
LONG = {"max_new_tokens": 2000, "temperature": 100.0, "seed": 7, "details": True}
wait_seconds_max = 60.0
TRIES_MAX = 10


async def until(condition: object, port: int) -> str:
    """Polls /metrics until they hold a line."""
    deadline = time.monotonic() + wait_seconds_max
    while time.monotonic() < deadline:
        text = (await exchange(port, get("/metrics"))).body.decode()
        if f"\n{condition}\n" in text:
            return text
        await asyncio.sleep(0.01)
    raise AssertionError(f"never saw {condition}")


LONG_STREAM = post("/generate_stream", {"inputs": "x", "parameters": LONG})


async def test_closing_the_connection_stops_the_generation(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(LONG_STREAM)
        await reader.readuntil(b"data: ")
        writer.transport.abort()
    text = await until("tgi_batch_current_size 0", port)
    assert "\ntgi_request_success 0\n" in text


async def test_closing_only_the_sending_side_stops_it_as_well(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(LONG_STREAM)
        await reader.readuntil(b"data: ")
        writer.write_eof()
        rest = await asyncio.wait_for(reader.read(-1), wait_seconds_max)
    assert b"finish_reason" not in rest
    assert "\ntgi_request_success 0\n" in await until("tgi_batch_current_size 0", port)


def wild(engine: LocalEngine, seed: int) -> Generation:
    """A generation of 1,000 tokens, unless the end is drawn by chance."""
    parameters = Parameters(max_new_tokens=1000, temperature=100.0, seed=seed)
    prompt = engine.model.encode("x", bos=True)
    return engine.model.generation(prompt, parameters, tokens_max=1000, seed=seed)


async def seed_of_a_long_one(engine: LocalEngine) -> int:
    executor = engine.model.executor
    for seed in range(20):
        generation = wild(engine, seed)
        said = [token async for token in generation.tokens(generation.begin(executor))]
        if len(said) == generation.generated_tokens == 1000:
            return seed
    raise AssertionError("the end is drawn far too often")


async def test_a_cancelled_generation_says_no_more_tokens(engine: LocalEngine) -> None:
    """Where this thread stood still until the generation was nearly over, it is tried again."""
    executor, seed = engine.model.executor, await seed_of_a_long_one(engine)
    for _ in range(TRIES_MAX):
        generation = wild(engine, seed)
        async with aclosing(generation.tokens(generation.begin(executor))) as tokens:
            await anext(tokens)
        said = generation.generated_tokens
        # All of the executor's threads meet here, so the one that generated is free.
        meeting = threading.Barrier(limits.streams_at_once_max, timeout=wait_seconds_max)
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            *(loop.run_in_executor(executor, meeting.wait) for _ in range(meeting.parties))
        )
        if said < 900:
            assert generation.generated_tokens <= said + 1
            return
    raise AssertionError(f"{TRIES_MAX} times it was over before it could be cancelled")


async def test_readers_that_do_not_read_hold_nobody_up(engine: LocalEngine) -> None:
    parameters = Parameters(max_new_tokens=100)
    lazy = [
        engine.tokens("x", parameters, bos=True, streamed=True)
        for _ in range(limits.streams_at_once_max)
    ]
    for tokens in lazy:
        await anext(tokens)
    async with asyncio.timeout(wait_seconds_max):
        async with aclosing(engine.tokens("x", parameters, bos=True, streamed=True)) as tokens:
            assert len([said async for said in tokens])
    for tokens in lazy:
        await tokens.aclose()


async def test_more_streams_than_slots_all_end(port: int) -> None:
    body = post("/generate_stream", {"inputs": "x", "parameters": LONG | {"max_new_tokens": 100}})
    many = 3 * limits.streams_at_once_max
    answers = await asyncio.gather(*(exchange(port, body) for _ in range(many)))
    assert len({answer.body for answer in answers}) == 1
    assert all(finish(answer)["finish_reason"] == "length" for answer in answers)


def finish(answer: Answer) -> dict[str, object]:
    last = answer.events()[-1]
    assert isinstance(last, dict)
    details = last["details"]
    assert isinstance(details, dict)
    return details


async def test_the_same_seed_says_the_same_and_another_one_does_not(port: int) -> None:
    asked = [LONG | {"max_new_tokens": 12, "seed": seed} for seed in (1, 1, 2)]
    answers = [
        await exchange(port, post("/generate", {"inputs": "x", "parameters": one})) for one in asked
    ]
    texts = [answer.json()["generated_text"] for answer in answers]
    assert texts[0] == texts[1] != texts[2]
    assert [answer.json()["details"]["seed"] for answer in answers] == [1, 1, 2]


async def test_a_stop_sequence_ends_the_text_with_itself(port: int) -> None:
    asked = {"inputs": "<|user|>What is Thalweg?<|end|><|assistant|>"}
    plain = await exchange(port, post("/generate", asked))
    assert plain.json()["generated_text"].startswith("Thalweg is a backend for chat products")
    parameters = {"stop": ["nothing like it", " for chat"], "details": True}
    stopped = await exchange(port, post("/generate", asked | {"parameters": parameters}))
    assert stopped.json()["generated_text"] == "Thalweg is a backend for chat"
    assert stopped.json()["details"]["finish_reason"] == "stop_sequence"


async def test_the_end_of_an_answer_is_a_special_token_outside_the_text(port: int) -> None:
    asked = {
        "inputs": "<|user|>Thank you<|end|><|assistant|>",
        "parameters": {"max_new_tokens": 50, "details": True},
    }
    answer = await exchange(port, post("/generate_stream", asked))
    events = [json.loads(chunk.removeprefix(b"data: ")) for chunk in answer.chunks]
    assert events[-1]["token"] | {"logprob": 0} == {
        "id": 2,
        "text": "</s>",
        "logprob": 0,
        "special": True,
    }
    assert events[-1]["details"]["finish_reason"] == "eos_token"
    said = "".join(event["token"]["text"] for event in events[:-1])
    assert said == events[-1]["generated_text"] == "You are welcome. May your streams never break."
    assert [event["index"] for event in events] == list(range(1, len(events) + 1))


def test_half_a_character_has_no_text_and_the_other_half_has_it_all() -> None:
    letters = {byte: letter for letter, byte in bytes_of_letters().items()}
    first, second = "é".encode()
    speech = Speech(special=frozenset(), end="</s>", tokens_max=9, stop=())
    assert speech.add(1, letters[first], 0.0).text == ""
    assert speech.add(2, letters[second] + "a", 0.0).text == "éa"


async def test_a_silent_stream_gets_comments(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "keep_alive_seconds", 0.05)

    async def slow(self: object) -> None:
        await asyncio.sleep(0.3)

    monkeypatch.setattr("asyncio.Semaphore.acquire", slow)
    asked = {"inputs": "x", "parameters": {"max_new_tokens": 1}}
    answer = await exchange(port, post("/generate_stream", asked))
    assert answer.chunks[0] == b":\n\n"
    assert answer.chunks[-1].startswith(b"data: ")


async def test_a_failing_model_is_told_as_it_is_and_shows_in_its_health(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Generation) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(Generation, "_run", broken)
        tokens = engine.tokens("x", Parameters(max_new_tokens=2), bos=True, streamed=True)
        with pytest.raises(GenerationFailed, match="generation: Server error: out of memory"):
            await anext(tokens)
        with pytest.raises(Unhealthy):
            await engine.check_health()
    await engine.check_health()
    assert 'tgi_request_failure{err="generation"} 1' in engine.metrics.text()


@pytest.mark.parametrize(
    "parameters",
    [
        {"grammar": {"type": "regex", "value": "a+"}},
        {"watermark": True},
        {"top_n_tokens": 6},
        {"typical_p": 0.5},
        {"frequency_penalty": 0.1},
        {"adapter_id": "some/adapter"},
        {"best_of": 2, "do_sample": True},
    ],
)
async def test_what_the_library_cannot_do_is_refused_by_name(
    parameters: dict[str, object], port: int
) -> None:
    answer = await exchange(port, post("/generate", {"inputs": "x", "parameters": parameters}))
    assert answer.status == 422
    assert answer.json()["error_type"] == "validation"
    assert f"`{next(iter(parameters))}`" in answer.json()["error"]


async def test_the_prompts_own_tokens_can_be_had_without_a_stream(port: int) -> None:
    parameters = {"max_new_tokens": 1, "decoder_input_details": True}
    answer = await exchange(port, post("/generate", {"inputs": "a b", "parameters": parameters}))
    prefill = answer.json()["details"]["prefill"]
    assert [token["text"] for token in prefill] == ["<s>", "a", " b"]
    assert prefill[0]["logprob"] is None
    assert all(token["logprob"] < 0 for token in prefill[1:])
