"""Engines with OpenAI's chat route (vLLM, SGLang, llama.cpp), by /chat/completions as a stream.

An answer is continued with vLLM's `continue_final_message`. Its limits: the chat template sees the
last message, so blanks at the end of what was said may be trimmed in the prompt, and an engine that
ignores the parameter instead of refusing it would begin a new turn. Prefer TGI's protocol where an
engine has both.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from infra.engines import metrics
from infra.engines import openai_wire as wire
from infra.engines.errors import complaint, streamed_complaint
from infra.engines.http import HEALTH_SECONDS_MAX, HttpEngine, Reply, Timers
from infra.engines.stream import Malformed, speak
from processors.answers.engine import (
    CannotContinue,
    EngineFailed,
    EngineRefused,
    Finished,
    FinishReason,
    Overloaded,
    Prompt,
    Token,
)
from processors.answers.scheduling.seats import Figures

STREAM = "/chat/completions"
METRICS = "../metrics"

BUSY = (429, 503)
"""vLLM and others say 429; SGLang with a full queue and llama.cpp while it loads say 503."""

CHUNKS_WITHOUT_TEXT_MAX = 256
"""Of one call: a first one with the role, one with the usage, and what else an engine invents."""

T = TypeVar("T")


class OpenAiEngine:
    """One server, with all the models that it lists. `Engine` says what the methods promise."""

    def __init__(self, url: str, timers: Timers | None = None) -> None:
        self._http = HttpEngine(url, timers or Timers())
        self._model: str | None = None

    @property
    def name(self) -> str:
        return self._http.name

    async def models(self) -> tuple[str, ...]:
        try:
            return await self._json("GET", "/models", wire.read_models)
        except (EngineRefused, Overloaded) as error:
            raise EngineFailed(str(error)) from error

    async def healthy(self) -> bool:
        """By its list of models: the routes for health differ from engine to engine."""
        with suppress(EngineFailed):
            reply = await self._http.call("GET", "/models", seconds_max=HEALTH_SECONDS_MAX)
            return reply.status == 200
        return False

    async def figures(self) -> Figures | None:
        """Beside the API's own path, not under it."""
        return await metrics.ask(self._http, METRICS, metrics.OPENAI)

    async def close(self) -> None:
        await self._http.close()

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Token | Finished, None]:
        try:
            model = prompt.model or self._model or await self._first_model()
            asked, corrected = prompt.tokens_max, False
            while True:
                body = wire.chat_body(model, prompt, asked)
                reading = _Reading(
                    self.name, asked, fewer=asked < prompt.tokens_max, continues=bool(prompt.said)
                )
                try:
                    async with aclosing(speak(self._http, STREAM, body, reading)) as said:
                        async for one in said:
                            yield one
                    return
                except EngineRefused as refusal:  # before the first token, says `Engine`
                    room = wire.room_of(str(refusal))
                    if room is None or corrected or (room < 1 and not prompt.said):
                        raise
                    if room < 1:
                        yield Finished(FinishReason.LENGTH, tokens=0, context_full=True)
                        return
                    asked, corrected = min(asked, room), True
        except EngineFailed:
            self._model = None
            raise

    async def _first_model(self) -> str:
        models = await self.models()
        if not models:
            raise EngineFailed(f"{self.name}: it lists no model")
        self._model = models[0]
        return models[0]

    async def _json(self, method: str, path: str, read: Callable[[Any], T]) -> T:
        reply = await self._http.call(method, path)
        if reply.status != 200:
            raise complaint(self.name, reply.status, reply.json(), busy=BUSY)
        try:
            return read(reply.json())
        except Malformed as error:
            raise EngineFailed(f"{self.name}: {error}") from error


class _Reading:
    """The chunks of a chat stream."""

    def __init__(self, name: str, asked: int, *, fewer: bool, continues: bool) -> None:
        self._name, self._asked = name, asked
        self._fewer, self._continues = fewer, continues
        self._tokens = 0
        self._without_text = 0
        self._reason: FinishReason | None = None
        self._usage: tuple[int | None, int | None] | None = None

    def refused(self, reply: Reply) -> Exception:
        error = complaint(self._name, reply.status, reply.json(), busy=BUSY)
        if (
            self._continues
            and isinstance(error, EngineRefused)
            and wire.room_of(str(error)) is None
        ):
            return CannotContinue(f"{self._name}: {error}")
        return error

    def event(self, data: bytes) -> tuple[Token | Finished, ...]:
        if data == b"[DONE]":
            finished = self.ended()
            if finished is None:
                raise EngineFailed(f"{self._name}: it was done without a finish reason")
            return (finished,)
        chunk = wire.read_chunk(data)
        if isinstance(chunk, dict):
            if finished := self.ended():
                return (finished,)
            raise streamed_complaint(self._name, chunk, said=self._tokens > 0)
        self._usage = chunk.usage or self._usage
        if self._reason is not None:  # everything was said; only the usage was waited for
            return self._last(chunk)
        self._reason = chunk.reason
        if not chunk.text:
            self._without_text += 1
            if self._without_text > CHUNKS_WITHOUT_TEXT_MAX:
                raise EngineFailed(f"{self._name}: its chunks have no text")
            return ()
        if self._tokens >= self._asked:  # it goes on against what it was asked: stop it here
            return (Finished(FinishReason.LENGTH, tokens=self._tokens, context_full=self._fewer),)
        said = chunk.logprobs or (Token(chunk.text),)
        self._tokens += len(said)
        return said

    def _last(self, chunk: wire.Chunk) -> tuple[Token | Finished, ...]:
        self._without_text += 1
        waits = chunk.usage is None and self._without_text <= CHUNKS_WITHOUT_TEXT_MAX
        finished = self.ended()
        return () if waits or finished is None else (finished,)

    def ended(self) -> Finished | None:
        if self._reason is None:
            return None
        prompt_tokens, tokens = self._usage or (None, None)
        return Finished(
            self._reason,
            prompt_tokens=prompt_tokens,
            tokens=tokens,
            context_full=self._reason is FinishReason.LENGTH and self._fewer,
        )
