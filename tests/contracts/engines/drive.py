"""Runs one call of an adapter to its end and says what came of it."""

from contextlib import aclosing
from dataclasses import dataclass

from events.conversations import Role, Sampling
from infra.engines.http import Timers
from infra.engines.openai import OpenAiEngine
from infra.engines.tgi import TgiEngine
from processors.answers.engine import Finished, FinishReason, Message, Prompt, Token

AdapterType = type[TgiEngine] | type[OpenAiEngine]
PATIENT = Timers(connect_seconds_max=10, first_token_seconds_max=20, between_tokens_seconds_max=20)
IMPATIENT = Timers(connect_seconds_max=5, first_token_seconds_max=2, between_tokens_seconds_max=0.5)
"""For engines that hang: a busy machine says within it what is to be said before, all at once."""


@dataclass(frozen=True)
class Said:
    """A success: the text of each token, and the end."""

    tokens: tuple[str, ...]
    reason: FinishReason
    prompt_tokens: int | None = None
    counted: int | None = None


@dataclass(frozen=True)
class Failed:
    """An error, with the tokens that came before it."""

    error: str
    tokens: tuple[str, ...] = ()


Outcome = Said | Failed


def prompt(
    *contents: str,
    said: str = "",
    tokens_max: int = 100,
    sampling: Sampling | None = None,
) -> Prompt:
    """Messages that alternate between user and assistant; the last one is the user's."""
    roles = (Role.USER, Role.ASSISTANT)
    messages = tuple(Message(roles[i % 2], content) for i, content in enumerate(contents))
    return Prompt(messages, said, sampling or Sampling(max_tokens=tokens_max), tokens_max)


async def outcome(engine: TgiEngine | OpenAiEngine, asked: Prompt) -> Outcome:
    """One whole generation."""
    tokens: list[str] = []
    finished: Finished | None = None
    try:
        async with aclosing(engine.generate(asked)) as spoken:
            async for one in spoken:
                assert finished is None, "something came after Finished"
                if isinstance(one, Token):
                    tokens.append(one.text)
                else:
                    finished = one
    except Exception as error:
        return Failed(type(error).__name__, tuple(tokens))
    assert finished is not None, "it ended without Finished and without an error"
    return Said(tuple(tokens), finished.reason, finished.prompt_tokens, finished.tokens)
