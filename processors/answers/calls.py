"""A call as the state machine's shell makes it: on the first engine that gives a token.

Nothing is shown of a call that fails before its first token, so another engine simply takes it. An
answer of which nothing was shown before, either, needs a budget of retries for that. Calls that
broke at an engine which had the request are counted, so that a request which breaks engines can't
break them for ever; whoever could not be reached is not.
"""

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from processors.answers.dispatch import Dispatcher, GivenUp, Turn
from processors.answers.engine import (
    CannotContinue,
    EngineFailed,
    Finished,
    NoEngine,
    Overloaded,
    Prompt,
    Token,
)
from processors.answers.meter import Heard, Spoken
from processors.answers.ports import Request
from processors.answers.protocol_words import Failure
from processors.answers.scheduling.scheduler import Dispatch, Outcome
from processors.answers.scheduling.work import Queued, Why

log = logging.getLogger("thalweg.answers")

FAILURES: dict[type[Exception], Failure] = {
    Overloaded: Failure.OVERLOADED,
    NoEngine: Failure.NO_ENGINE,
    CannotContinue: Failure.CANNOT_CONTINUE,
}
"""How an answer ends of which no call was taken."""
BROKEN_CALLS_MAX = 10  # a request that kills engines must not take them all down for ever
CHARACTERS_PER_TOKEN = 4  # about, of English; the charge is corrected by the engine's own count


class Call:
    """One call, on the first engine that gives a token."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        work: Queued,
        prompt: Prompt,
        turn: Turn | None = None,
        heard: Heard | None = None,
    ) -> None:
        """`turn`: what the queue has said of it already. `heard` counts tokens."""
        self._dispatcher = dispatcher
        self._work = work
        self._prompt = replace(prompt, model=work.model)
        self._turn = turn
        self._heard = heard or Heard()
        self.engine: str | None = None
        """The name of who speaks."""
        self._speaking: _Speaking | None = None

    @property
    def next_attempt(self) -> int:
        """The number of a further call for this answer."""
        return self._work.attempt

    async def tokens(self) -> AsyncGenerator[Token | Finished, None]:
        """Yields tokens, then one Finished.

        Raises Overloaded, NoEngine, EngineRefused, CannotContinue or EngineFailed when, within the
        bounds, no engine took the call; EngineFailed also in the middle.
        """
        broken = 0
        last: Exception | None = None
        while True:
            try:
                dispatch = await self._next()
            except GivenUp as given_up:
                raise _error_of(given_up.why, last) from None
            self.engine = dispatch.seat.name
            self._work = replace(self._work, attempt=self._work.attempt + 1)
            speaking = self._speaking = _Speaking(
                self._dispatcher, dispatch, self._prompt, self._heard
            )
            try:
                async with aclosing(speaking.tokens()) as tokens:
                    async for item in tokens:
                        yield item
                return
            except EngineFailed as error:
                broken += error.reached
                last = error
                log.warning("an engine failed", extra={"engine": self.engine, "kind": error.kind})
                if speaking.said or broken >= BROKEN_CALLS_MAX:
                    raise
                if error.reached and not self._work.begun and not self._dispatcher.may_retry():
                    raise
                self._work = replace(self._work, avoid=self.engine)
            except Overloaded as error:
                last = error
            except CannotContinue as error:
                last = error
                self._work = replace(self._work, unable=self._work.unable | {self.engine})

    def is_enough(self) -> None:
        """All that is wanted was said: who closes the call now does so after a success."""
        if self._speaking is not None:
            self._speaking.is_enough = True

    async def _next(self) -> Dispatch:
        turn, self._turn = self._turn, None
        if isinstance(turn, GivenUp) and self._work.begun:
            turn = None  # a part was shown since, by a worker that is losing the partition
        if isinstance(turn, Exception):
            raise turn
        return turn or await self._dispatcher.acquire(self._work)


class Calls:
    """The calls that a worker makes for one answer, one after another."""

    def __init__(self, request: Request, dispatcher: Dispatcher) -> None:
        self._request = request
        self._dispatcher = dispatcher
        self._last: Call | None = None
        self.heard = Heard()
        self.avoid: str | None = None
        """The name of an engine that broke in the middle of one."""

    def next(
        self, prompt: Prompt, seconds_left: float, said_tokens: int, turn: Turn | None
    ) -> Call:
        """`said_tokens`: of the answer, which it goes on from. `turn`: see `Call`."""
        work = work_of(
            self._request,
            prompt,
            seconds_left,
            avoid=self.avoid,
            attempt=1 if self._last is None else self._last.next_attempt,
            said_tokens=said_tokens,
        )
        self._last = Call(self._dispatcher, work, prompt, turn, self.heard)
        return self._last


class _Speaking:
    """One dispatch: what the engine says, and what that says of the engine."""

    def __init__(
        self, dispatcher: Dispatcher, dispatch: Dispatch, prompt: Prompt, heard: Heard
    ) -> None:
        self._dispatcher = dispatcher
        self._dispatch = dispatch
        self._prompt = prompt
        self._heard, self._heard_before = heard, heard.tokens
        self._first_at: float | None = None
        self.is_enough = False

    async def tokens(self) -> AsyncGenerator[Token | Finished, None]:
        engine = self._dispatcher.engine(self._dispatch.seat.name)
        outcome, finished, kind = Outcome.LET_GO, None, ""
        stream = engine.generate(self._prompt)
        try:
            async for item in stream:
                if self._first_at is None:
                    self._first_at = time.monotonic()
                if isinstance(item, Finished):
                    outcome, finished = Outcome.FINISHED, item
                else:
                    self._heard.tokens += 1
                yield item
        except EngineFailed as error:
            outcome = Outcome.FAILED if error.reached else Outcome.AWAY
            kind = error.kind
            raise
        except Overloaded:
            outcome = Outcome.FULL
            raise
        finally:
            try:
                await _close(stream)
            finally:
                if self.is_enough and outcome is Outcome.LET_GO:
                    outcome = Outcome.FINISHED
                spoken = self._spoken(finished)
                used = spoken.tokens + self._prompt_tokens(finished)
                self._dispatcher.ended(self._dispatch, outcome, used, kind, spoken)

    @property
    def said(self) -> bool:
        return self._first_at is not None

    def _spoken(self, finished: Finished | None) -> Spoken:
        first_at = self._first_at
        return Spoken(
            self._heard.tokens - self._heard_before,
            None if finished is None else finished.prompt_tokens,
            None if first_at is None else first_at - self._dispatch.began_at,
        )

    def _prompt_tokens(self, finished: Finished | None) -> int:
        """As the engine counted them, else about; none if it did not get to them."""
        if finished is not None and finished.prompt_tokens is not None:
            return finished.prompt_tokens
        return prompt_tokens_of(self._prompt) if self.said else 0


def work_of(
    request: Request,
    prompt: Prompt,
    seconds_left: float,
    *,
    avoid: str | None = None,
    attempt: int = 1,
    said_tokens: int = 0,
) -> Queued:
    """A call that is to be made, as the queue has it."""
    now = time.monotonic()
    return Queued(
        request.answer,
        request.conversation,
        request.tenant,
        request.place.band,
        request.model,
        tokens=prompt_tokens_of(prompt) + prompt.tokens_max,
        asked_at=now,
        deadline=now + seconds_left,
        begun=prompt.said != "",
        avoid=avoid,
        attempt=attempt,
        said_tokens=said_tokens,
    )


def prompt_tokens_of(prompt: Prompt) -> int:
    """About."""
    characters = sum(len(message.content) for message in prompt.messages) + len(prompt.said)
    return characters // CHARACTERS_PER_TOKEN


def _error_of(why: Why, last: Exception | None) -> Exception:
    """`last`: how an engine had failed it before."""
    if last is not None and (isinstance(last, CannotContinue) or why is Why.DEADLINE):
        return last
    if why is Why.NO_CAPACITY:
        return NoEngine("no engine took calls in time")
    return Overloaded("no engine had room in time")


async def _close(stream: AsyncIterator[Token | Finished]) -> None:
    """Closes the engine's connection: leaving a loop over a generator does not."""
    if isinstance(stream, AsyncGenerator):
        await stream.aclose()
