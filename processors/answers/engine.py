"""What answering needs of an inference server."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from events.conversations import Role, Sampling
from processors.answers.scheduling.seats import Figures


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to say next: the rest of an answer to `messages` of which `said` was said already."""

    messages: tuple[Message, ...]
    """Ends with the message that is to be answered."""
    said: str
    """The durable prefix of the answer, exactly; empty at its beginning."""
    sampling: Sampling
    tokens_max: int
    """How many tokens may still be said. The adapter may give fewer a call (reason length)."""
    model: str = ""
    """One of those that the engine serves, by its name for it; empty: the first of them."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token as the engine said it. Text may be empty: a part of a character."""

    text: str
    id: int | None = None
    logprob: float | None = None
    """Natural logarithm of its probability. None: the engine does not say, or was not asked."""
    top: tuple[tuple[str, float], ...] = ()
    """The likeliest tokens in its place with their logprobs, if they were asked for."""


class FinishReason(StrEnum):
    STOP = "stop"
    """The model ended, or a stop sequence was said."""
    LENGTH = "length"
    """`tokens_max` or the engine's own limit a call was reached."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The last thing a successful call yields. `prompt_tokens` is None if the engine is silent."""

    reason: FinishReason
    prompt_tokens: int | None = None
    tokens: int | None = None
    """Tokens of this call as the engine counted them, None if it does not say."""
    context_full: bool = False
    """LENGTH because the model's context is full: a further call cannot go on."""


class Overloaded(Exception):
    """The engine has no room now; nothing was said. Another may have."""


class NoEngine(Exception):
    """No engine that can do it has taken calls for long; nothing was said."""


class EngineFailed(Exception):
    """The engine broke, hung, or ended its stream without a finish reason. Another may go on.

    The message may hold the engine's own words, which may repeat the request: it is not for logs.
    `kind` is. `reached`: it may have seen the request, so that may be what broke it; False: it is
    away for everybody.
    """

    def __init__(self, message: str, *, kind: str = "failed", reached: bool = True) -> None:
        super().__init__(message)
        self.kind = kind
        self.reached = reached


class EngineRefused(Exception):
    """The engine will never serve this request (it is too long, invalid, ...); do not retry.

    The message is fit to be shown to the client.
    """


class CannotContinue(Exception):
    """This engine cannot continue this answer from a prefix."""


class Engine(Protocol):
    """One inference server. Implementations: infra/engines/tgi.py, infra/engines/openai.py."""

    @property
    def name(self) -> str:
        """Its address, for logs and for `ps`."""

    async def models(self) -> tuple[str, ...]:
        """The ids of the models that it serves. Raises EngineFailed."""

    def generate(self, prompt: Prompt) -> AsyncIterator[Token | Finished]:
        """Yields tokens as they are said, then one Finished.

        Raises Overloaded and EngineRefused before the first token, EngineFailed at any time,
        CannotContinue before the first token if `prompt.said` is not empty. What it cannot do of
        `prompt.sampling` it refuses by its name. Special tokens (end of sequence) are not yielded.
        A stop sequence may be part of the tokens' text. Every wait has a bound. Closing the
        iterator (`aclose`) closes the connection, which cancels the work.
        """

    async def healthy(self) -> bool:
        """Whether it can generate now. Bounded; never raises."""

    async def figures(self) -> Figures | None:
        """What it says of its load. None: it does not say, or not in time. Bounded; never
        raises."""

    async def close(self) -> None:
        """Closes its connections."""
