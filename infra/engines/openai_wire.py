"""The OpenAI-compatible chat route as vLLM, SGLang, llama.cpp and TGI have it: pure and strict."""

import re
from dataclasses import dataclass, replace
from typing import Any

import orjson

from infra.engines import tgi_wire
from infra.engines.stream import Malformed
from processors.answers.engine import FinishReason, Prompt, Token

STOP_SEQUENCES_MAX = 4
"""What OpenAI's own interface allows. What an engine does not get, the worker finds itself."""

REASONS = {
    "stop": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,  # TGI's word
    "eos_token": FinishReason.STOP,
    "length": FinishReason.LENGTH,
}

TOO_LONG = re.compile(r"context (?:length|size|window)|context_length_exceeded|exceed_context_size")
CONTEXT_TOKENS = re.compile(r"maximum context length is (\d+) tokens")
PROMPT_TOKENS = re.compile(r"\((\d+) in the (?:messages|prompt)|has (\d+) input tokens")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of a chat stream."""

    text: str
    reason: FinishReason | None
    usage: tuple[int | None, int | None] | None
    """(tokens of the prompt, tokens said)."""
    choices: int
    logprobs: tuple[Token, ...] = ()
    """The tokens of `text`, if the engine gives their log probabilities and they make it up."""


def chat_body(model: str, prompt: Prompt, tokens_max: int) -> dict[str, Any]:
    """The body of /chat/completions. top_p 1 means nothing, and TGI refuses it: it is left out."""
    sampling = prompt.sampling
    messages = [{"role": m.role.value, "content": m.content} for m in prompt.messages]
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": tokens_max,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    if sampling.top_p is not None and sampling.top_p < 1:
        body["top_p"] = sampling.top_p
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.frequency_penalty:
        body["frequency_penalty"] = sampling.frequency_penalty
    if sampling.presence_penalty:
        body["presence_penalty"] = sampling.presence_penalty
    if sampling.logprobs:
        body["logprobs"] = True
        if sampling.top_logprobs:
            body["top_logprobs"] = sampling.top_logprobs
    if sampling.stop:
        body["stop"] = list(sampling.stop[:STOP_SEQUENCES_MAX])
    if prompt.said:
        messages.append({"role": "assistant", "content": prompt.said})
        body["add_generation_prompt"] = False
        body["continue_final_message"] = True
    return body


def read_chunk(data: bytes) -> Chunk | dict[str, Any]:
    """A chunk, or the JSON of an error. Raises Malformed."""
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"a chunk is not JSON: {error}") from None
    if not isinstance(chunk, dict):
        raise Malformed("a chunk is not an object")
    if chunk.get("error") is not None or chunk.get("object") == "error":
        return chunk
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        raise Malformed("a chunk has no choices")
    usage = _usage(chunk.get("usage"))
    if not choices:
        return Chunk("", None, usage, 0)
    choice = choices[0]
    if not isinstance(choice, dict):
        raise Malformed("a choice is not an object")
    delta = choice.get("delta")
    text = delta.get("content") if isinstance(delta, dict) else None
    if text is not None and not isinstance(text, str):
        raise Malformed("the content of a chunk is not text")
    tokens = _tokens(text, choice["logprobs"]) if text and choice.get("logprobs") else ()
    return Chunk(text or "", _reason(choice.get("finish_reason")), usage, len(choices), tokens)


def _tokens(text: str, logprobs: Any) -> tuple[Token, ...]:
    """Empty if they are not what they should be: an answer is worth more than its numbers."""
    rows = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(rows, list):
        return ()
    tokens: list[Token] = []
    for row in rows:
        pair = _pair(row)
        if pair is None:
            return ()
        tokens.append(Token(pair[0], logprob=pair[1], top=_top(row.get("top_logprobs"))))
    if len(tokens) == 1:  # its own text may be a name for the last part of a character
        return (replace(tokens[0], text=text),)
    return tuple(tokens) if "".join(token.text for token in tokens) == text else ()


def _top(rows: Any) -> tuple[tuple[str, float], ...]:
    found = [_pair(row) for row in rows] if isinstance(rows, list) else []
    return tuple(pair for pair in found if pair is not None)


def _pair(row: Any) -> tuple[str, float] | None:
    token = row.get("token") if isinstance(row, dict) else None
    logprob = row.get("logprob") if isinstance(row, dict) else None
    if isinstance(logprob, bool) or not isinstance(logprob, int | float):
        return None
    return (token, float(logprob)) if isinstance(token, str) else None


def _reason(reason: Any) -> FinishReason | None:
    if reason is None:
        return None
    if not isinstance(reason, str) or reason not in REASONS:
        raise Malformed(f"the finish reason {reason!r} is none that a text has"[:200])
    return REASONS[reason]


def _usage(usage: Any) -> tuple[int | None, int | None] | None:
    if not isinstance(usage, dict):
        return None
    return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_models(body: Any) -> tuple[str, ...]:
    """Of /models. Raises Malformed."""
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list):
        raise Malformed("/models gave no list")
    ids = [one.get("id") for one in data if isinstance(one, dict)]
    return tuple(one for one in ids if isinstance(one, str))


def room_of(refusal: str) -> int | None:
    """How many tokens the context has room for, if this refusal is about that; else None."""
    if (room := tgi_wire.room_of(refusal)) is not None:
        return room
    if not TOO_LONG.search(refusal):
        return None
    context, prompt = CONTEXT_TOKENS.search(refusal), PROMPT_TOKENS.search(refusal)
    if context is None or prompt is None:
        return 0
    return max(0, int(context[1]) - int(prompt[1] or prompt[2]))
