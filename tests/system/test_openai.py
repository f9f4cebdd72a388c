"""The official OpenAI client against a whole installation whose engine's words are known."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import openai
import pytest

from tests.fixtures.numbered_process import NumberedEngine
from tests.fixtures.thalweg import RunningThalweg

MODEL = "numbered"
DELAY_MS = 50
"""Between two tokens: twenty together are longer than a busy machine lets a process wait."""


@pytest.fixture
def sdk(numbered: RunningThalweg) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{numbered.url}/v1", api_key=numbered.api_key) as client:
        yield client


def said(content: str) -> list[Any]:
    return [{"role": "user", "content": content}]


def numbers(count: int) -> str:
    return "".join(f" {k}" for k in range(count))


def test_a_whole_answer(sdk: openai.OpenAI) -> None:
    got = sdk.chat.completions.create(model=MODEL, messages=said("tokens=7"))
    assert got.choices[0].message.content == numbers(7)
    assert got.choices[0].finish_reason == "stop"
    assert got.usage is not None
    assert got.usage.total_tokens == got.usage.prompt_tokens + got.usage.completion_tokens
    assert got.usage.prompt_tokens > 3


def test_a_streamed_answer_with_its_usage(sdk: openai.OpenAI) -> None:
    chunks = list(
        sdk.chat.completions.create(
            model=MODEL,
            messages=said(f"tokens=20 delay_ms={DELAY_MS}"),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *chunks, last = chunks
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 20
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == numbers(20)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) > 1  # as it was said


def test_an_unknown_model_is_not_found(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.chat.completions.create(model="other", messages=said("hi"))
    assert caught.value.code == "model_not_found"
    assert "other" in str(caught.value)


def test_a_wrong_key_is_refused(numbered: RunningThalweg) -> None:
    with (
        openai.OpenAI(base_url=f"{numbered.url}/v1", api_key="tw_wrong") as sdk,
        pytest.raises(openai.AuthenticationError),
    ):
        sdk.models.list()


@pytest.mark.parametrize("stream", [False, True])
def test_max_tokens_end_an_answer_with_length(sdk: openai.OpenAI, stream: bool) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": said("tokens=50"), "max_tokens": 5}
    if stream:
        chunks = list(sdk.chat.completions.create(stream=True, **asked))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        reason = chunks[-1].choices[0].finish_reason
    else:
        got = sdk.chat.completions.create(**asked)
        text, reason = got.choices[0].message.content, got.choices[0].finish_reason
        assert got.usage.completion_tokens == 5
    assert (text, reason) == (numbers(5), "length")


@pytest.mark.parametrize("stop", [" 12", ["nowhere", "1 12"]])
def test_a_stop_sequence_ends_an_answer_just_before_it(sdk: openai.OpenAI, stop: Any) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": said("tokens=50 delay_ms=5"), "stop": stop}
    whole = "".join(f" {k}" for k in range(50))
    wanted = whole.partition(stop if isinstance(stop, str) else stop[-1])[0]
    got = sdk.chat.completions.create(**asked)
    assert got.choices[0].message.content == wanted
    assert got.choices[0].finish_reason == "stop"
    chunks = list(sdk.chat.completions.create(stream=True, **asked))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == wanted


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_key_is_one_generation(
    sdk: openai.OpenAI, engine: NumberedEngine, stream: bool
) -> None:
    before = engine.calls().get("generations", 0)
    key = {"Idempotency-Key": uuid4().hex}
    bodies = []
    for _ in range(3):
        with sdk.chat.completions.with_streaming_response.create(
            model=MODEL, messages=said("tokens=9"), stream=stream, extra_headers=key
        ) as response:
            bodies.append(response.read())
    assert bodies[0] == bodies[1] == bodies[2]
    assert engine.calls()["generations"] == before + 1
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        sdk.chat.completions.create(model=MODEL, messages=said("other"), extra_headers=key)
    assert caught.value.code == "idempotency_key_reused"


def test_an_engine_that_refuses_is_an_error_with_its_words(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="told to refuse") as caught:
        sdk.chat.completions.create(model=MODEL, messages=said("invalid"))
    assert caught.value.code == "refused"
