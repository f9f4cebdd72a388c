"""Runs one generation on CTranslate2 in a thread and hands its tokens to the event loop.

A thread for each running generation blocks in the library (which releases the interpreter lock);
the library calls back for each token, and what the callback returns stops it: so a cancelled
generation ends after the step that is under way.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from typing import Any

from infra.local_engine.errors import GenerationFailed
from infra.local_engine.text import Likely, Said, Speech

# The library's call for one prompt, with everything but the callback already given.
Start = Callable[[Callable[[Any], bool]], None]

# From a step's logits to the likeliest tokens.
Likeliest = Callable[[Any], tuple[Likely, ...]]


class Generation:
    """Tokens of one generation. Close the iterator to cancel it."""

    def __init__(self, start: Start, speech: Speech, likeliest: Likeliest | None = None) -> None:
        self._start = start
        self._speech = speech
        self._likeliest = likeliest
        self._said: deque[Said] = deque()  # bounded by the request's own number of tokens
        self._cancelled = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._announced = False
        self.generated_tokens = 0

    def begin(self, executor: Executor) -> asyncio.Future[None]:
        """Starts to generate, whether or not anybody reads; done when the model is free again."""
        run = self._loop.run_in_executor(executor, self._run)
        run.add_done_callback(self._done)
        return run

    async def tokens(self, run: asyncio.Future[None]) -> AsyncGenerator[Said]:
        """Yields each token of this run as soon as it is there. Raises GenerationFailed."""
        try:
            while True:
                finished = run.done()
                while self._said:
                    yield self._said.popleft()
                if finished:
                    break
                await self._news.wait()
                self._news.clear()
            if (error := run.exception()) is not None:
                raise GenerationFailed(str(error)) from error
        finally:
            self._cancelled.set()
            run.cancel()

    def _done(self, run: asyncio.Future[None]) -> None:
        if not run.cancelled():
            run.exception()  # looked at here, so that an abandoned one is not reported as lost
        self._news.set()

    # What follows runs in the threads of the executor and of the library.

    def _run(self) -> None:
        if not self._cancelled.is_set():
            self._start(self._step)

    def _step(self, step: Any) -> bool:
        """Called by the library for each token; True ends the generation."""
        if self._cancelled.is_set():
            return True
        self.generated_tokens += 1
        top = None if self._likeliest is None else self._likeliest(step.logits)
        said = self._speech.add(step.token_id, step.token, step.log_prob or 0.0, top)
        self._said.append(said)
        if not self._announced:
            # One wake-up for all tokens that come before the loop gets to it.
            self._announced = True
            try:
                self._loop.call_soon_threadsafe(self._announce)
            except RuntimeError:  # the loop was closed: nobody listens any more
                return True
        return said.finish_reason is not None

    def _announce(self) -> None:
        self._announced = False
        self._news.set()
