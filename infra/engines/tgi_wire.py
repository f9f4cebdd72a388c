"""What Text Generation Inference 3 writes and reads, without the network: pure and strict."""

import re
from dataclasses import dataclass
from typing import Any

import orjson

from events.conversations import Sampling
from infra.engines.stream import Malformed
from processors.answers.engine import EngineRefused, FinishReason

STOP_SEQUENCES_MAX = 4
"""TGI refuses more (its --max-stop-sequences). What it does not get, the worker finds itself."""

SEED_MODULUS = 2**64
"""TGI's seed is an unsigned number of 64 bits."""

REASONS = {
    "length": FinishReason.LENGTH,
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
}

TOO_MANY = re.compile(
    r"`inputs` tokens \+ `max_new_tokens` must be <= (\d+)\. Given: (\d+) `inputs` tokens"
)
TOO_LONG = re.compile(r"`inputs` must have less than (\d+) tokens")


@dataclass(frozen=True, slots=True)
class Rendering:
    """A transcript as the model's chat template writes it, without a BOS in front."""

    text: str
    tokens: int
    """With the BOS that the tokenizer puts in front again."""


@dataclass(frozen=True, slots=True)
class End:
    """Of the last event: why, and what was counted."""

    reason: FinishReason
    tokens: int | None
    input_tokens: int | None


@dataclass(slots=True)
class Event:
    """One event of /generate_stream. (Not frozen: made for each token, and at once forgotten.)"""

    text: str
    id: int | None
    logprob: float | None
    special: bool
    end: End | None
    top: tuple[tuple[str, float], ...] = ()


def generate_body(inputs: str, sampling: Sampling, new_tokens_max: int) -> dict[str, Any]:
    """The body of /generate_stream, without what TGI refuses to be told: temperature 0, top_p 1."""
    parameters: dict[str, Any] = {"max_new_tokens": new_tokens_max, "details": True}
    if sampling.temperature is not None:
        parameters["do_sample"] = sampling.temperature > 0
        if sampling.temperature > 0:
            parameters["temperature"] = sampling.temperature
    greedy = sampling.temperature == 0  # here top_p would make it sample after all
    if sampling.top_p is not None and sampling.top_p < 1 and not greedy:
        parameters["top_p"] = sampling.top_p
    if sampling.seed is not None:
        parameters["seed"] = sampling.seed % SEED_MODULUS
    if sampling.stop:
        parameters["stop"] = list(sampling.stop[:STOP_SEQUENCES_MAX])
    if sampling.frequency_penalty:
        parameters["frequency_penalty"] = sampling.frequency_penalty
    if sampling.logprobs and sampling.top_logprobs:
        parameters["top_n_tokens"] = sampling.top_logprobs
    return {"inputs": inputs, "parameters": parameters}


def refuse(sampling: Sampling) -> None:
    """Raises EngineRefused for what TGI has nothing for: its chat route makes another thing (a
    repetition penalty of 2 + p) of a presence penalty."""
    if sampling.presence_penalty:
        raise EngineRefused(
            "presence_penalty is not supported by the engine of this model; leave it out"
        )


def in_our_words(refusal: str) -> str:
    """A refusal with the names that our clients know."""
    return refusal.replace("top_n_tokens", "top_logprobs")


def read_event(data: bytes) -> Event | dict[str, Any]:
    """A token's event, or the JSON of an error's. Raises Malformed."""
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"an event is not JSON: {error}") from None
    if not isinstance(event, dict):
        raise Malformed("an event is not an object")
    if "error" in event:
        return event
    token = event.get("token")
    if not isinstance(token, dict) or not isinstance(text := token.get("text"), str):
        raise Malformed("an event has no token with a text")
    number, logprob, details = token.get("id"), token.get("logprob"), event.get("details")
    return Event(
        text,
        number if type(number) is int else None,
        logprob if isinstance(logprob, float) else None,
        token.get("special") is True,
        None if details is None else _end(details),
        _top(event["top_tokens"]) if "top_tokens" in event else (),
    )


def _top(tokens: Any) -> tuple[tuple[str, float], ...]:
    if not isinstance(tokens, list):
        return ()
    return tuple(
        (one["text"], one["logprob"])
        for one in tokens
        if isinstance(one, dict)
        and isinstance(one.get("text"), str)
        and isinstance(one.get("logprob"), float)
    )


def _end(details: Any) -> End:
    if not isinstance(details, dict) or details.get("finish_reason") not in REASONS:
        raise Malformed("the details of the last event have no finish reason that we know")
    return End(
        reason=REASONS[details["finish_reason"]],
        tokens=_count(details.get("generated_tokens")),
        input_tokens=_count(details.get("input_length")),
    )


def read_rendering(body: Any, bos_id: int | None) -> Rendering:
    """Of /chat_tokenize; `bos_id` is the token that the tokenizer puts in front of every prompt.

    A template writes the BOS as well, and no parameter keeps the tokenizer from adding another, so
    the written one is taken off. Raises Malformed.
    """
    text = body.get("templated_text") if isinstance(body, dict) else None
    tokens = body.get("tokenize_response") if isinstance(body, dict) else None
    if not isinstance(text, str) or not isinstance(tokens, list):
        raise Malformed("/chat_tokenize gave no templated_text with its tokens")
    first = tokens[0] if tokens and isinstance(tokens[0], dict) else {}
    if bos_id is None:
        return Rendering(text, len(tokens))
    if first.get("id") != bos_id:
        return Rendering(text, len(tokens) + 1)
    mark = first.get("text")
    return Rendering(text.removeprefix(mark) if isinstance(mark, str) else text, len(tokens))


def read_bos_id(body: Any) -> int | None:
    """Of /tokenize: the id of a first token that covers no text. None: nothing is put in front."""
    first = body[0] if isinstance(body, list) and body else None
    if not isinstance(first, dict):
        raise Malformed("/tokenize gave no tokens")
    added = first.get("start") == 0 and first.get("stop") == 0
    return _count(first.get("id")) if added else None


def read_total_tokens_max(body: Any) -> int:
    """Of /info: prompt and answer together. Raises Malformed."""
    total = _count(body.get("max_total_tokens")) if isinstance(body, dict) else None
    if total is None:
        raise Malformed("/info names no max_total_tokens")
    return total


def read_models(body: Any) -> tuple[str, ...]:
    """Of /info. Raises Malformed."""
    model = body.get("model_id") if isinstance(body, dict) else None
    if not isinstance(model, str):
        raise Malformed("/info names no model_id")
    return (model,)


def room_of(refusal: str) -> int | None:
    """How many tokens the context has room for, if this refusal is about that; else None."""
    if found := TOO_MANY.search(refusal):
        return max(0, int(found[1]) - int(found[2]))
    return 0 if TOO_LONG.search(refusal) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
