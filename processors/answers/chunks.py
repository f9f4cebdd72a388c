"""Which tokens of an answer share a record of the log, and when it is sent.

Those that arrive together at once are one chunk. While an earlier chunk of the answer is on its way
through the log, and while many answers speak (see `Pace`), tokens are gathered, by size and by
`chunk_delay_seconds_max`.
"""

import asyncio
import time
from typing import Protocol

from events.conversations import Sampling
from events.ids import AnswerId
from processors.answers.pace import Pace
from processors.answers.protocol import room
from processors.answers.protocol_words import Held, Input, Said
from processors.answers.surroundings import HoldingLimits
from processors.answers.text import TextGatherer, logprobs_bytes_left


class Machine(Protocol):
    """The state machine of a held request, as `Holding` runs it."""

    state: Held
    is_stepping: bool
    """It is at work; when it is done it says `stepped`."""

    def put(self, put: Input) -> None: ...


class Chunks:
    """Of one call: add tokens to `gatherer`, `send_soon` after each, and `end` with the call."""

    def __init__(
        self,
        machine: Machine,
        answer: AnswerId,
        call: int,
        how: Sampling,
        limits: HoldingLimits,
        pace: Pace,
    ) -> None:
        self._machine = machine
        self._answer = answer
        self._call = call
        self._limits = limits
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self.gatherer = _gatherer(how, machine.state, limits)
        self.said = 0
        """How many were put in."""
        self._said_at = 0.0
        self._timer: asyncio.Handle | None = None
        self._has_ended = False
        self._room = asyncio.Event()
        self._see_room()

    def end(self) -> None:
        """What is left in the gatherer is no chunk any more."""
        self._has_ended = True
        self._stop_timer()

    def stepped(self) -> None:
        """The state machine was told something: there may be room for more, or none."""
        self._see_room()
        self.send()

    def send_soon(self) -> None:
        """What arrived together becomes one chunk: the loop turns when no more of it is there."""
        if self._timer is None:
            self._timer = self._loop.call_soon(self._is_due, False)

    async def send_when_there_is_room(self) -> None:
        """The engine waits meanwhile."""
        await self._room.wait()
        self.send()

    def send(self, *, everything: bool = False, has_waited: bool = False) -> None:
        """Puts a chunk in, if there is text and it need not, or must not, wait any longer. A call's
        first one never waits for others."""
        gatherer = self.gatherer
        if self._has_ended or not gatherer.ready or self._machine.is_stepping:
            return
        limits, state = self._limits, self._machine.state
        if not room(state):
            return
        now = time.monotonic()
        on_its_way = state.held or state.next_index > state.fold.next_index
        due = now if has_waited or not self.said else self._pace.due(now)
        if on_its_way:
            due = max(due, self._said_at + limits.chunk_delay_seconds_max)
        large = gatherer.ready_bytes >= limits.chunk_bytes_max
        if now < due and not large and not everything:
            if self._timer is None:
                self._timer = self._loop.call_later(due - now, self._is_due, True)
            return
        self._stop_timer()
        self._pace.sent(self._answer, now)
        piece = gatherer.take()
        self._said_at = now
        self.said += 1
        self._machine.put(
            Said(self._call, piece.text, piece.tokens, piece.token_ids, piece.logprobs)
        )

    def _see_room(self) -> None:
        (self._room.set if room(self._machine.state) else self._room.clear)()

    def _is_due(self, has_waited: bool) -> None:
        self._timer = None
        self.send(has_waited=has_waited)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _gatherer(how: Sampling, state: Held, limits: HoldingLimits) -> TextGatherer:
    if not how.logprobs:
        return TextGatherer(how.stop)
    left = logprobs_bytes_left(state.fold, limits.answer_logprobs_bytes_max)
    return TextGatherer(how.stop, logprobs_bytes_max=left, top_logprobs=how.top_logprobs)
