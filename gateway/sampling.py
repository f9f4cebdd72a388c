"""How an answer is to be given, as clients say it: the same bounds on both faces."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from events.conversations import Sampling
from gateway.errors import InvalidRequest
from gateway.limits import GatewayLimits

STOPS_MAX = 4  # what OpenAI's API and TGI take
STOP_CHARACTERS_MAX = 256  # text that may become a stop sequence is held back, up to this
PENALTY_MAX = 2.0  # OpenAI's range: from -2 to 2
TOP_LOGPROBS_MAX = 5  # what TGI gives unless it is started with another --max-top-n-tokens
SEED_MAX = 2**63 - 1  # engines take 64 bits, JSON readers keep the sign bit


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=SEED_MAX)]
Penalty = Annotated[float, Field(ge=-PENALTY_MAX, le=PENALTY_MAX)]
TopLogprobs = Annotated[int, Field(ge=0, le=TOP_LOGPROBS_MAX)]
MaxTokens = Annotated[int, Field(ge=1)]
Stop = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=STOP_CHARACTERS_MAX)], ...],
    Field(max_length=STOPS_MAX),
    BeforeValidator(_as_list),
]
Subject = Annotated[str, Field(min_length=1, max_length=256)]
"""Whose data it is: the client's name for its user."""


def sampling(
    limits: GatewayLimits,
    *,
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    stop: tuple[str, ...],
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    logprobs: bool = False,
    top_logprobs: int | None = None,
    param: str = "max_tokens",
) -> Sampling:
    """Raises InvalidRequest for a budget above `answer_tokens_max`, and for `top_logprobs` without
    `logprobs`."""
    if max_tokens is not None and max_tokens > limits.answer_tokens_max:
        raise InvalidRequest(
            f"{param}: an answer has at most {limits.answer_tokens_max} tokens here; ask for fewer",
            param,
        )
    if top_logprobs is not None and not logprobs:
        raise InvalidRequest(
            "top_logprobs: only with log probabilities; set `logprobs` or leave it out",
            "top_logprobs",
        )
    return Sampling(
        max_tokens=max_tokens or min(limits.answer_tokens_default, limits.answer_tokens_max),
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        stop=stop,
        frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty,
        logprobs=logprobs,
        top_logprobs=top_logprobs or 0,
    )
