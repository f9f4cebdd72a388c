"""The routes in OpenAI's shape, as TGI has them, and /chat_tokenize.

Unlike TGI's, the chat route takes the likeliest token unless the request says how to sample.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import orjson
from aiohttp import web

from infra.local_engine.chat_request import ChatRequest, CompletionRequest
from infra.local_engine.engine import Job, LocalEngine
from infra.local_engine.errors import EngineError
from infra.local_engine.generate_routes import simple_tokens
from infra.local_engine.parameters import Parameters
from infra.local_engine.text import Likely, Said
from infra.local_engine.wire import DONE, body_of, event_stream, json_response

VERSION = "3.3.0"
FINGERPRINT = f"{VERSION}-native"
REASONS = {"eos_token": "stop", "stop_sequence": "stop_sequence", "length": "length"}


@dataclass(frozen=True, slots=True)
class Shape:
    """How one of the two routes words its chunks."""

    prompt: str
    parameters: Parameters
    bos: bool
    model: str
    include_usage: bool


class ChatRoutes:
    """Handlers for messages, and for OpenAI's older completions."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        asked = ChatRequest.read(await body_of(request))
        asked.refuse_tools()
        prompt = self._engine.model.render(asked.messages)
        model = self._named(asked.model)
        shape = Shape(prompt, asked.parameters, False, model, asked.include_usage)
        if asked.stream:
            shown = asked.parameters.logprobs
            chunk = partial(chat_chunk, logprobs=shown)
            last_chunk = partial(chat_last_chunk, logprobs=shown)
            return await event_stream(request, self._events(shape, chunk, last_chunk))
        job = await self._finished(shape)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": self._text(job)},
            "logprobs": logprobs_json(job.said) if asked.parameters.logprobs else None,
            "finish_reason": REASONS[str(job.said[-1].finish_reason)],
        }
        return json_response(
            {**head("chat.completion", model), "choices": [choice], "usage": usage(job)}, job=job
        )

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/completions."""
        asked = CompletionRequest.read(await body_of(request))
        model = self._named(asked.model)
        shape = Shape(asked.prompt, asked.parameters, True, model, False)
        if asked.stream:
            return await event_stream(request, self._events(shape, text_chunk, text_last_chunk))
        job = await self._finished(shape)
        choice = {
            "index": 0,
            "text": self._text(job),
            "logprobs": None,
            "finish_reason": REASONS[str(job.said[-1].finish_reason)],
        }
        return json_response(
            {**head("text_completion", model), "choices": [choice], "usage": usage(job)}, job=job
        )

    async def chat_tokenize(self, request: web.Request) -> web.StreamResponse:
        """POST /chat_tokenize: the rendered prompt and its tokens; no admission, as in TGI."""
        asked = ChatRequest.read(await body_of(request))
        text = self._engine.model.render(asked.messages)
        tokens = simple_tokens(self._engine.model.encode(text, bos=False), text)
        return json_response({"tokenize_response": tokens, "templated_text": text})

    async def _events(
        self, shape: Shape, chunk: ChunkMaker, last_chunk: LastChunkMaker
    ) -> AsyncGenerator[bytes]:
        tokens = self._engine.tokens(shape.prompt, shape.parameters, bos=shape.bos, streamed=True)
        try:
            async with aclosing(tokens):
                async for job, said in tokens:
                    if said.finish_reason is None:
                        yield orjson.dumps(chunk(shape.model, said))
                    else:
                        yield orjson.dumps(last_chunk(shape.model, said, job))
            if shape.include_usage:
                rest = {"choices": [], "usage": usage(job)}
                yield orjson.dumps(head("chat.completion.chunk", shape.model) | rest)
        except EngineError as error:
            # 422 whatever it was: that is what TGI's wire says here.
            yield orjson.dumps({"error": {"message": str(error), "http_status_code": 422}})
        yield DONE

    async def _finished(self, shape: Shape) -> Job:
        tokens = self._engine.tokens(shape.prompt, shape.parameters, bos=shape.bos, streamed=False)
        async with aclosing(tokens):
            async for item in tokens:
                job, _ = item
        return job

    def _text(self, job: Job) -> str:
        return self._engine.model.decode([said.id for said in job.said])

    def _named(self, model: str | None) -> str:
        return self._engine.model.name if model in (None, "tgi") else str(model)


def head(kind: str, model: str) -> dict[str, object]:
    """What every body and chunk begins with."""
    return {
        "object": kind,
        "id": "",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": FINGERPRINT,
    }


def usage(job: Job) -> dict[str, int]:
    """The tokens that were read and said."""
    read, said = job.input_length, len(job.said)
    return {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}


def logprobs_json(said: Sequence[Said]) -> dict[str, object]:
    """Tokens with their log probabilities and the likeliest in their places."""
    return {"content": [{**logprob_json(one), "top_logprobs": tops(one)} for one in said]}


def tops(said: Said) -> list[dict[str, object]]:
    """The likeliest tokens in its place, if they were asked for."""
    return [logprob_json(one) for one in said.top or ()]


def logprob_json(said: Said | Likely) -> dict[str, object]:
    """One token with its log probability."""
    return {"token": said.text, "logprob": said.logprob}


def chat_chunk(model: str, said: Said, *, logprobs: bool = False) -> Mapping[str, object]:
    """A token on the chat route; the mark of the end has no text there."""
    text = "" if said.special else said.text
    reason = None if said.finish_reason is None else REASONS[said.finish_reason]
    choice = {
        "index": 0,
        "delta": {"role": "assistant", "content": text},
        "logprobs": logprobs_json([said]) if logprobs else None,
        "finish_reason": reason,
    }
    return {**head("chat.completion.chunk", model), "choices": [choice], "usage": None}


def chat_last_chunk(
    model: str, said: Said, job: Job, *, logprobs: bool = False
) -> Mapping[str, object]:
    """The last token is a chunk like the others, with a reason."""
    return chat_chunk(model, said, logprobs=logprobs)


def text_chunk(model: str, said: Said) -> Mapping[str, object]:
    """A token on the completions route; TGI has another order of fields here than at the end."""
    choice = {"index": 0, "text": said.text, "logprobs": None, "finish_reason": ""}
    beginning = head("text_completion", model)
    end = {name: beginning.pop(name) for name in ("model", "system_fingerprint")}
    return {**beginning, "choices": [choice], **end}


def text_last_chunk(model: str, said: Said, job: Job) -> Mapping[str, object]:
    """The last token there, with TGI's own reason and the usage."""
    choice = {"index": 0, "text": said.text, "logprobs": None, "finish_reason": said.finish_reason}
    return {**head("text_completion", model), "choices": [choice], "usage": usage(job)}


class ChunkMaker(Protocol):
    """Words one token that is not the last."""

    def __call__(self, model: str, said: Said) -> Mapping[str, object]: ...


class LastChunkMaker(Protocol):
    """Words the last token."""

    def __call__(self, model: str, said: Said, job: Job) -> Mapping[str, object]: ...
