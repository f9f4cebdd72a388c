"""TGI's own routes: /generate, /generate_stream, / and /tokenize."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import orjson
from aiohttp import web
from tokenizers import Encoding

from infra.local_engine.engine import Job, LocalEngine
from infra.local_engine.errors import EngineError
from infra.local_engine.parameters import GenerateRequest
from infra.local_engine.text import Likely, Said
from infra.local_engine.wire import body_of, event_stream, json_response


class GenerateRoutes:
    """Handlers for prompts that are plain text."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """POST /generate: one JSON object."""
        asked = GenerateRequest.read(await body_of(request))
        job, answer = await self._answer(asked, full_text=asked.parameters.return_full_text)
        return json_response(answer, job=job)

    async def generate_stream(self, request: web.Request) -> web.StreamResponse:
        """POST /generate_stream: an event for each token."""
        asked = GenerateRequest.read(await body_of(request))
        events = self._events(asked, full_text=asked.parameters.return_full_text)
        return await event_stream(request, events)

    async def root(self, request: web.Request) -> web.StreamResponse:
        """POST /: either of them, with the prompt in front unless told otherwise."""
        asked = GenerateRequest.read(await body_of(request))
        full_text = asked.parameters.return_full_text is not False
        if asked.stream:
            return await event_stream(request, self._events(asked, full_text=full_text))
        job, answer = await self._answer(asked, full_text=full_text)
        return json_response([answer], job=job)

    async def tokenize(self, request: web.Request) -> web.StreamResponse:
        """POST /tokenize: the tokens that a prompt would have."""
        asked = GenerateRequest.read(await body_of(request))
        encoding = self._engine.model.encode(asked.inputs, bos=True)
        return json_response(simple_tokens(encoding, asked.inputs))

    async def _events(
        self, asked: GenerateRequest, *, full_text: bool | None
    ) -> AsyncGenerator[bytes]:
        parameters = asked.parameters
        tokens = self._engine.tokens(asked.inputs, parameters, bos=True, streamed=True)
        index = 0
        try:
            async with aclosing(tokens):
                async for job, said in tokens:
                    index += 1
                    last = said.finish_reason is not None
                    event = {
                        "index": index,
                        "token": token_json(said),
                        **({} if said.top is None else {"top_tokens": tops_json(said.top)}),
                        "generated_text": self._text(job, asked, full_text) if last else None,
                        "details": stream_details(job) if last and parameters.details else None,
                    }
                    yield orjson.dumps(event)
        except EngineError as error:
            yield orjson.dumps(error.body())

    async def _answer(
        self, asked: GenerateRequest, *, full_text: bool | None
    ) -> tuple[Job, dict[str, object]]:
        parameters = asked.parameters
        tokens = self._engine.tokens(asked.inputs, parameters, bos=True, streamed=False)
        async with aclosing(tokens):
            async for item in tokens:
                job, _ = item
        answer: dict[str, Any] = {"generated_text": self._text(job, asked, full_text)}
        if parameters.details or parameters.decoder_input_details:
            answer["details"] = {
                "finish_reason": job.said[-1].finish_reason,
                "generated_tokens": len(job.said),
                "seed": job.seed,
                "prefill": await self._prefill(job) if parameters.decoder_input_details else [],
                "tokens": [token_json(said) for said in job.said],
            }
            if parameters.top_n_tokens:
                answer["details"]["top_tokens"] = [tops_json(said.top or ()) for said in job.said]
        return job, answer

    async def _prefill(self, job: Job) -> list[dict[str, object]]:
        scores = await asyncio.to_thread(self._engine.model.scores, job.prompt)
        pairs = zip(job.prompt.ids, job.prompt.tokens, scores, strict=True)
        decode = self._engine.model.tokenizer.decode
        return [
            {
                "id": number,
                "text": decode([number], skip_special_tokens=False) or token,
                "logprob": score,
            }
            for number, token, score in pairs
        ]

    def _text(self, job: Job, asked: GenerateRequest, full_text: bool | None) -> str:
        text = self._engine.model.decode([said.id for said in job.said])
        return asked.inputs + text if full_text else text


def tops_json(top: Sequence[Likely]) -> list[dict[str, object]]:
    """The likeliest tokens of one place."""
    return [token_json(one) for one in top]


def token_json(said: Said | Likely) -> dict[str, object]:
    """A token as the wire shows it."""
    return {"id": said.id, "text": said.text, "logprob": said.logprob, "special": said.special}


def stream_details(job: Job) -> dict[str, object]:
    """The last event's details."""
    return {
        "finish_reason": job.said[-1].finish_reason,
        "generated_tokens": len(job.said),
        "seed": job.seed,
        "input_length": job.input_length,
    }


def simple_tokens(encoding: Encoding, text: str) -> list[dict[str, object]]:
    """Tokens with the part of the text that each stands for."""
    return [
        {"id": number, "text": text[start:stop], "start": start, "stop": stop}
        for number, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)
    ]
