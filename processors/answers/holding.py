"""One request in a worker's hands: does what the state machine says, and tells it what comes back.

All that decides is in protocol.py. Here are the clock, the tasks and the connections; what an
engine says goes through `Chunks`, calls to engines through `Calls`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any

from events import trace
from events.answers import ClaimId, Fold
from events.ids import fresh_id
from processors.answers import engine as engines
from processors.answers.calls import FAILURES, Calls
from processors.answers.chunks import Chunks
from processors.answers.dispatch import Ticket
from processors.answers.engine import Finished, FinishReason, Prompt
from processors.answers.ports import NotSent, Place, Request, RequestsUnavailable, Task
from processors.answers.protocol import hold, step
from processors.answers.protocol_words import (
    Acknowledge,
    EngineFailed,
    EngineFinished,
    Expired,
    Failure,
    Forget,
    Held,
    Hush,
    Input,
    Load,
    Loaded,
    LoadFailed,
    Output,
    Phase,
    ProduceFailed,
    Send,
    Speak,
    StartTimer,
    StopTimer,
    TimerFired,
    Wait,
)
from processors.answers.stages import Stages
from processors.answers.surroundings import Surroundings
from processors.answers.text import TextGatherer

log = logging.getLogger("thalweg.answers")

NO_MEMBER_AGAIN_SECONDS = 0.5  # before looking again whether the group counts this worker in
DEADLINE_MARGIN_SECONDS = 5.0  # so that it is the deadline that ends an answer, and says so
UNREADABLE_LOADS_MAX = 20  # 10 s: a newer worker, if one is there by then, may understand it
QUIET_CALLS_MAX = 3  # calls in a row that break before a character could be shown


class Holding:
    """A request that is held. `start` it, `put` in what happens, until it calls `on_gone`."""

    def __init__(
        self,
        request: Request,
        around: Surroundings,
        on_gone: Callable[["Holding", bool], None],
        ticket: Ticket,
    ) -> None:
        self.request = request
        self.places: list[Place] = [request.place]
        """Where it was asked for; more than one if the relay has repeated itself."""
        self._around = around
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._trace = trace.turn_of(request.traceparent)
        self._stages: Stages | None = None
        if trace.is_told(self._trace):
            self._stages = Stages(request, self._trace, around.worker)
        self.state: Held
        """Changed by the state machine alone."""
        self.is_stepping = False
        self._inbox: deque[Input] = deque()
        self._gone = False
        self._acknowledged = False
        self._task: Task | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_at = 0.0  # by the loop
        self._told_no_member = False
        self._ticket = ticket
        self._unreadable = 0  # loads in a row that failed for another reason than an outage
        self._speaking: asyncio.Task[None] | None = None
        """The call under way."""
        self.calls = Calls(request, around.dispatcher)
        self._chunks: Chunks | None = None
        """Of the call under way."""

    def start(self, said: Fold, generation: int) -> None:
        """`said` is the fold of the answer up to the end of its partition at the assignment."""
        self.state, outputs = hold(
            self.request.answer,
            worker=self._around.worker,
            model=self.request.model,
            generation=generation,
            bounds=self._around.limits.bounds,
            said=said,
            traceparent=self.request.traceparent,
        )
        if self._stages is not None:
            self._stages.step(None, self.state, outputs)
        self.is_stepping = True
        self._perform(outputs)
        self._drain()

    def put(self, put: Input) -> None:
        """Tells the state machine, and does what it answers."""
        if self._gone:
            return
        self._inbox.append(put)
        if not self.is_stepping:
            self.is_stepping = True
            self._drain()

    def abandon(self) -> list["asyncio.Task[None]"]:
        """Stops everything without a word to the log. Returns the tasks that are ending."""
        self._gone = True
        for handle in (self._timer, self._deadline):
            if handle is not None:
                handle.cancel()
        self._inbox.clear()
        self._end_chunks()
        self._ticket.give_back()
        for task in self._tasks:
            task.cancel()
        return list(self._tasks)

    def _drain(self) -> None:
        try:
            while self._inbox and not self._gone:
                put = self._inbox.popleft()
                self.state, outputs = step(self.state, put, fresh_id())
                if self._stages is not None:
                    self._stages.step(put, self.state, outputs)
                self._perform(outputs)
        finally:
            self.is_stepping = False
        if self._gone:
            return
        loaded, claiming = self._task is not None, self.state.phase is Phase.CLAIMING
        if loaded and self._speaking is None and not claiming:
            self._ticket.give_back()  # it does not speak now, nor as soon as its claim is read
        if self._chunks is not None:
            self._chunks.stepped()

    def _perform(self, outputs: tuple[Output, ...]) -> None:
        for output in outputs:
            match output:
                case Load():
                    self._run(self._load())
                case Send():
                    self._send(output)
                case Speak():
                    self._speaking = self._run(self._speak(output))
                case Hush():
                    self._hush()
                case StartTimer(wait):
                    self._start_timer(wait, self._seconds(wait))
                case StopTimer():
                    self._stop_timer()
                case Acknowledge():
                    self._acknowledged = True
                case Forget():
                    self._tell_end()
                    self.abandon()
                    self._on_gone(self, self._acknowledged)

    def _run(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        with trace.within(self._trace):
            task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _seconds(self, wait: Wait) -> float:
        limits = self._around.limits
        if wait is Wait.CLAIM_AGAIN:
            return limits.claim_again_seconds
        return limits.load_again_seconds

    def _start_timer(self, wait: Wait, seconds: float) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(seconds, self._timer_fired, wait)

    def _timer_fired(self, wait: Wait) -> None:
        """Nobody claims over another's claim while others may own the partition: it waits on."""
        if wait is Wait.CLAIM_AGAIN and not self._around.is_member():
            if not self._told_no_member:
                self._told_no_member = True
                log.warning("a claim waits: no member of its group now", extra=self._extra())
            self._start_timer(wait, NO_MEMBER_AGAIN_SECONDS)
        else:
            self.put(TimerFired())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # the event store ----------------------------------------------------------------------

    async def _load(self) -> None:
        try:
            task = await self._around.requests.load(self.request)
        except RequestsUnavailable as error:
            log.warning("a request cannot be loaded now", extra=self._extra(error=str(error)))
            self._ticket.give_back()  # others may speak meanwhile that were loaded before
            self.put(LoadFailed())
            return
        except Exception:
            self._unreadable += 1
            log.exception("a request could not be loaded", extra=self._extra())
            given_up = self._unreadable >= UNREADABLE_LOADS_MAX
            self.put(Loaded(False, False, False, 0, unreadable=True) if given_up else LoadFailed())
            return
        if not task.ended and self._around.missed(self.request, task.age_seconds):
            return
        self._task = task
        left = min(task.seconds_left, self._around.limits.answer_seconds_max)
        if left > 0 and self._deadline is None and not self._gone:
            self._deadline = self._loop.call_later(left, self.put, Expired())
            self._deadline_at = self._loop.time() + left
        known = (task.ended, task.cancel_requested, left <= 0, task.tokens_max)
        self.put(Loaded(*known, unreadable=task.unreadable))

    # the log ------------------------------------------------------------------------------

    def _send(self, send: Send) -> None:
        record, request = send.record, self.request
        try:
            sent = self._around.tokens.send(request.place.partition, request.conversation, record)
        except NotSent as error:
            log.warning("a token record was not sent", extra=self._extra(error=str(error)))
            self._inbox.append(ProduceFailed(record.claim))
            return
        sent.add_done_callback(partial(self._sent, record.claim))

    def _sent(self, claim: ClaimId, sent: "asyncio.Future[object]") -> None:
        if not sent.cancelled() and sent.exception() is None:
            return
        self.put(ProduceFailed(claim))

    # the engine ---------------------------------------------------------------------------

    def _hush(self) -> None:
        speaking = self._speaking
        self._end_call()
        if speaking is not None:
            speaking.cancel()

    async def _speak(self, speak: Speak) -> None:
        try:
            for _ in range(QUIET_CALLS_MAX):
                if await self._speak_once(speak):
                    return
            self._failed(speak, Failure.FAILED)
        except (engines.Overloaded, engines.NoEngine, engines.CannotContinue) as error:
            self._failed(speak, FAILURES[type(error)])
        except engines.EngineRefused as error:
            self._failed(speak, Failure.REFUSED, str(error))
        except Exception:
            log.exception("an engine adapter broke", extra=self._extra())
            self._failed(speak, Failure.FAILED)

    async def _speak_once(self, speak: Speak) -> bool:
        """Whether the state machine has heard how it went; False: nothing was shown, try again."""
        if self._task is None:
            raise RuntimeError("an engine is called before the request was loaded")
        how, around = self._task.sampling, self._around
        chunks = self._chunks = Chunks(
            self, self.request.answer, speak.call, how, around.limits, around.pace
        )
        gatherer = chunks.gatherer
        prompt = Prompt(self._task.messages, speak.said, how, speak.tokens_max)
        left = self._deadline_at - self._loop.time() if self._deadline is not None else 0.0
        left += DEADLINE_MARGIN_SECONDS
        call = self.calls.next(prompt, left, self.state.prefix_tokens, self._ticket.take())
        said = False
        try:
            async with aclosing(call.tokens()) as tokens:
                async for item in tokens:
                    said = True
                    if isinstance(item, Finished):
                        self._finished(speak, gatherer, item)
                        return True
                    gatherer.add(item.text, item.id, item.logprob, item.top)
                    if gatherer.stopped:
                        call.is_enough()
                        self._finished(speak, gatherer, Finished(FinishReason.STOP))
                        return True
                    while gatherer.ready_bytes >= around.limits.chunk_bytes_max:
                        await chunks.send_when_there_is_room()
                    chunks.send_soon()
            raise engines.EngineFailed("the stream ended without a reason")
        except engines.EngineFailed as error:
            log.warning("a call failed", extra=self._extra(engine=call.engine, kind=error.kind))
            self.calls.avoid = call.engine
            chunks.send(everything=True)
            if said and not chunks.said:
                self._end_chunks()
                return False
            self._failed(speak, Failure.FAILED)
            return True

    def _finished(self, speak: Speak, gatherer: TextGatherer, end: Finished) -> None:
        rest, prompt_tokens = gatherer.rest(), end.prompt_tokens or 0
        said, named = (rest.text, rest.tokens), (rest.token_ids, rest.logprobs)
        self._end_call()
        self.put(
            EngineFinished(speak.call, end.reason, *said, prompt_tokens, end.context_full, *named)
        )

    def _failed(self, speak: Speak, failure: Failure, message: str = "") -> None:
        self._end_call()
        self.put(EngineFailed(speak.call, failure, message))

    def _end_call(self) -> None:
        """The call is over by itself: what comes next must not cancel the task that says so."""
        self._speaking = None
        self._end_chunks()

    def _end_chunks(self) -> None:
        if self._chunks is not None:
            self._chunks.end()
            self._chunks = None

    def _tell_end(self) -> None:
        said = self.state.fold
        with trace.within(self._trace):
            log.info(
                "a request is no longer held",
                extra=self._extra(
                    acknowledged=self._acknowledged,
                    end=said.end.kind.value if said.end is not None else None,
                    chunks=said.next_index,
                ),
            )

    def _extra(self, **fields: object) -> dict[str, object]:
        return {"answer": str(self.request.answer), **fields}
