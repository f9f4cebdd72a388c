"""Text Generation Inference 3, by /chat_tokenize and /generate_stream.

The chat route is not used: it gives no token ids, and it renders a last message of the assistant
unsafely. So the prompt is rendered up to the user's last message, and what was said already is
appended to it, exactly, which makes every answer one that can be continued.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from infra.engines import metrics
from infra.engines import tgi_wire as wire
from infra.engines.errors import complaint, streamed_complaint
from infra.engines.http import HEALTH_SECONDS_MAX, HttpEngine, Reply, Timers
from infra.engines.stream import Malformed, speak
from processors.answers.engine import (
    EngineFailed,
    EngineRefused,
    Finished,
    FinishReason,
    Message,
    Overloaded,
    Prompt,
    Token,
)
from processors.answers.scheduling.seats import Figures

NEW_TOKENS_MAX = 1_024
"""Asked for in one call. TGI generates in pieces of 1,024 and miscounts when more are asked for."""

RENDERINGS_MAX = 256
"""Rendered transcripts kept: each further piece of an answer needs its own again."""

RENDERING_CHARACTERS_MAX = 16_777_216
"""Of all kept renderings together."""

STREAM = "/generate_stream"

T = TypeVar("T")

PROBE = "a"
"""Tokenized once, to see whether the tokenizer puts a BOS in front."""


class TgiEngine:
    """One TGI router. `processors.answers.engine.Engine` says what its methods promise."""

    def __init__(
        self, url: str, timers: Timers | None = None, *, tokens_per_call_max: int = NEW_TOKENS_MAX
    ) -> None:
        self._http = HttpEngine(url, timers or Timers())
        self._tokens_per_call_max = min(tokens_per_call_max, NEW_TOKENS_MAX)
        self._limits: tuple[int, int | None] | None = None
        """(tokens of the context, id of the BOS). Forgotten on a failure: it may come back new."""
        self._renderings: OrderedDict[tuple[Message, ...], wire.Rendering] = OrderedDict()
        self._kept_characters = 0

    @property
    def name(self) -> str:
        return self._http.name

    async def models(self) -> tuple[str, ...]:
        try:
            return await self._json("GET", "/info", None, wire.read_models)
        except (EngineRefused, Overloaded) as error:
            raise EngineFailed(str(error)) from error

    async def healthy(self) -> bool:
        with suppress(EngineFailed):
            reply = await self._http.call("GET", "/health", seconds_max=HEALTH_SECONDS_MAX)
            return reply.status == 200
        return False

    async def figures(self) -> Figures | None:
        return await metrics.ask(self._http, "/metrics", metrics.TGI)

    async def close(self) -> None:
        await self._http.close()

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Token | Finished, None]:
        wire.refuse(prompt.sampling)
        try:
            context_tokens, bos_id = self._limits or await self._read_limits()
            rendering = await self._render(prompt.messages, bos_id)
            # How many tokens `said` takes is not known here. If it is too much, TGI says how much.
            room, corrected = context_tokens - rendering.tokens, False
            while True:
                if room < 1:
                    yield _context_is_full(prompt)
                    return
                asked = min(prompt.tokens_max, self._tokens_per_call_max, room)
                body = wire.generate_body(rendering.text + prompt.said, prompt.sampling, asked)
                reading = _Reading(self.name, asked, context_tokens)
                try:
                    async with aclosing(speak(self._http, STREAM, body, reading)) as said:
                        async for one in said:
                            yield one
                    return
                except EngineRefused as refusal:  # before the first token, says `Engine`
                    left = wire.room_of(str(refusal))
                    if left is None or corrected:
                        raise EngineRefused(wire.in_our_words(str(refusal))) from refusal
                    room, corrected = left, True
        except EngineFailed:
            self._forget()
            raise

    async def _read_limits(self) -> tuple[int, int | None]:
        info = await self._json("GET", "/info", None, wire.read_total_tokens_max)
        bos = await self._json("POST", "/tokenize", {"inputs": PROBE}, wire.read_bos_id)
        self._limits = (info, bos)
        return self._limits

    async def _render(self, messages: tuple[Message, ...], bos_id: int | None) -> wire.Rendering:
        kept = self._renderings.get(messages)
        if kept is not None:
            self._renderings.move_to_end(messages)
            return kept
        body = {"messages": [{"role": m.role.value, "content": m.content} for m in messages]}
        rendering = await self._json(
            "POST", "/chat_tokenize", body, lambda answer: wire.read_rendering(answer, bos_id)
        )
        if again := self._renderings.pop(messages, None):  # another call rendered it meanwhile
            self._kept_characters -= len(again.text)
        self._renderings[messages] = rendering
        self._kept_characters += len(rendering.text)
        while (
            len(self._renderings) > RENDERINGS_MAX
            or self._kept_characters > RENDERING_CHARACTERS_MAX
        ):
            _, dropped = self._renderings.popitem(last=False)
            self._kept_characters -= len(dropped.text)
        return rendering

    async def _json(
        self, method: str, path: str, body: dict[str, Any] | None, read: Callable[[Any], T]
    ) -> T:
        reply = await self._http.call(method, path, body)
        if reply.status != 200:
            raise complaint(self.name, reply.status, reply.json())
        try:
            return read(reply.json())
        except Malformed as error:
            raise EngineFailed(f"{self.name}: {error}") from error

    def _forget(self) -> None:
        self._limits = None
        self._renderings.clear()
        self._kept_characters = 0


class _Reading:
    """The events of /generate_stream."""

    def __init__(self, name: str, asked: int, context_tokens: int) -> None:
        self._name, self._asked, self._context_tokens = name, asked, context_tokens
        self._tokens = 0

    def refused(self, reply: Reply) -> Exception:
        return complaint(self._name, reply.status, reply.json())

    def event(self, data: bytes) -> tuple[Token | Finished, ...]:
        event = wire.read_event(data)
        if isinstance(event, dict):
            raise streamed_complaint(self._name, event, said=self._tokens > 0)
        if self._tokens == self._asked:  # it goes on against what it was asked: stop it here
            return (self._finished(wire.End(FinishReason.LENGTH, self._tokens, None)),)
        self._tokens += 1
        token = Token(event.text, event.id, event.logprob, event.top)
        said = () if event.special else (token,)
        return said if event.end is None else (*said, self._finished(event.end))

    def ended(self) -> None:
        return None

    def _finished(self, end: wire.End) -> Finished:
        tokens = self._tokens if end.tokens is None else end.tokens
        used = (end.input_tokens or 0) + tokens
        return Finished(
            end.reason,
            prompt_tokens=end.input_tokens,
            tokens=tokens,
            context_full=end.reason is FinishReason.LENGTH and used >= self._context_tokens,
        )


def _context_is_full(prompt: Prompt) -> Finished:
    """The end of an answer that has begun; raises EngineRefused if nothing was said yet."""
    if not prompt.said:
        raise EngineRefused(
            "The conversation is too long for the model's context; shorten it or start a new one."
        )
    return Finished(FinishReason.LENGTH, tokens=0, context_full=True)
