"""Admission, the queue and the counting around generations: what TGI's router does."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from tokenizers import Encoding

from infra.local_engine import limits
from infra.local_engine.errors import EngineError, GenerationFailed, Invalid, Overloaded, Unhealthy
from infra.local_engine.metrics import Metrics
from infra.local_engine.model import Model
from infra.local_engine.parameters import Parameters
from infra.local_engine.text import Said


@dataclass
class Job:
    """One accepted request and what became of it; complete once its tokens have ended."""

    prompt: Encoding
    parameters: Parameters
    tokens_max: int
    seed: int | None
    began: float
    said: list[Said] = field(default_factory=list)
    queue_seconds: float = 0.0
    inference_seconds: float = 0.0

    @property
    def input_length(self) -> int:
        """The number of tokens that the model reads."""
        return min(len(self.prompt.ids), self.parameters.truncate or len(self.prompt.ids))


class LocalEngine:
    """Answers requests from one model. Keep it within one event loop."""

    def __init__(self, model: Model, *, concurrent_requests_max: int) -> None:
        self.model = model
        self.metrics = Metrics()
        self.concurrent_requests_max = concurrent_requests_max
        self._here = 0
        self._slots = asyncio.Semaphore(limits.streams_at_once_max)
        self._doubtful = False

    async def tokens(
        self, text: str, parameters: Parameters, *, bos: bool, streamed: bool
    ) -> AsyncGenerator[tuple[Job, Said]]:
        """Yields each token with its job. Closing the iterator cancels the generation.

        Raises Overloaded, Invalid (both before the first token) and GenerationFailed.
        """
        self.metrics.requests += 1
        try:
            if self._here >= self.concurrent_requests_max:
                raise Overloaded
            self._here += 1
            try:
                job = self._accepted(text, parameters, bos=bos, streamed=streamed)
                async with aclosing(self._run(job)) as tokens:
                    async for said in tokens:
                        yield job, said
            finally:
                self._here -= 1
        except EngineError as error:
            self.metrics.failures[error.error_type] += 1
            raise
        self._count(job)

    async def check_health(self) -> None:
        """Raises Unhealthy. Costs nothing unless the last generation failed."""
        if not self._doubtful:
            return
        job = self._accepted("a", Parameters(max_new_tokens=1), bos=True, streamed=False)
        try:
            async with aclosing(self._run(job)) as tokens:
                async for _ in tokens:
                    pass
        except EngineError as error:
            raise Unhealthy from error
        self._doubtful = False

    def _accepted(self, text: str, parameters: Parameters, *, bos: bool, streamed: bool) -> Job:
        began = time.monotonic()
        parameters.check(streamed=streamed)
        if not text:
            raise Invalid("`inputs` cannot be empty")
        prompt = self.model.encode(text, bos=bos)
        length = min(len(prompt.ids), parameters.truncate or len(prompt.ids))
        if parameters.max_new_tokens is None:
            tokens_max = limits.total_tokens_max - length
        else:
            tokens_max = parameters.max_new_tokens
        if length > limits.input_tokens_max and tokens_max <= 0:
            raise Invalid(
                f"`inputs` must have less than {limits.input_tokens_max} tokens. Given: {length}"
            )
        if length + tokens_max > limits.total_tokens_max:
            raise Invalid(
                f"`inputs` tokens + `max_new_tokens` must be <= {limits.total_tokens_max}."
                f" Given: {length} `inputs` tokens and {tokens_max} `max_new_tokens`"
            )
        seed = None
        if parameters.samples:
            seed = secrets.randbits(63) if parameters.seed is None else parameters.seed
        return Job(prompt, parameters, tokens_max, seed, began)

    async def _run(self, job: Job) -> AsyncGenerator[Said]:
        self.metrics.queued += 1
        try:
            await self._slots.acquire()
        finally:
            self.metrics.queued -= 1
        started = time.monotonic()
        job.queue_seconds = started - job.began
        try:
            generation = self.model.generation(
                job.prompt, job.parameters, tokens_max=job.tokens_max, seed=job.seed
            )
            run = generation.begin(self.model.executor)
        except BaseException:
            self._slots.release()
            raise
        size = job.input_length + job.tokens_max
        self.metrics.running += 1
        self.metrics.running_tokens_max += size
        # The slot is free when the model is, however slowly the tokens are read.
        run.add_done_callback(lambda _: self._vacate(size))
        try:
            async with aclosing(generation.tokens(run)) as tokens:
                async for said in tokens:
                    job.said.append(said)
                    yield said
        except GenerationFailed:
            self._doubtful = True
            raise
        finally:
            job.inference_seconds = time.monotonic() - started

    def _vacate(self, size: int) -> None:
        self.metrics.running -= 1
        self.metrics.running_tokens_max -= size
        self._slots.release()

    def _count(self, job: Job) -> None:
        self.metrics.successes += 1
        self.metrics.observe(
            duration=time.monotonic() - job.began,
            queue_duration=job.queue_seconds,
            inference_duration=job.inference_seconds,
            mean_time_per_token_duration=job.inference_seconds / max(1, len(job.said)),
            generated_tokens=len(job.said),
            input_length=job.input_length,
            max_new_tokens=job.tokens_max,
        )
