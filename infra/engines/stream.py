"""One generation as every protocol has it: post, judge the first words, read to a finish reason."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

from infra.engines.http import AFTER_FINISH_SECONDS_MAX, HttpEngine, Reply
from infra.failpoints import hit
from processors.answers.engine import EngineFailed, Finished, Token


class Malformed(Exception):
    """The engine wrote something that its protocol does not have."""


class Reading(Protocol):
    """What one protocol makes of one generation's events; pure, with the state between them."""

    def refused(self, reply: Reply) -> Exception:
        """The error for an answer that is not 200."""

    def event(self, data: bytes) -> tuple[Token | Finished, ...]:
        """What an event says, with Finished at most once and last. Raises Malformed, or the error
        that the event stands for."""

    def ended(self) -> Finished | None:
        """What it finished with as far as is known, None as long as no finish reason was given."""


async def speak(
    http: HttpEngine, path: str, body: Mapping[str, Any], reading: Reading
) -> AsyncGenerator[Token | Finished, None]:
    """Yields what is said, then one Finished; raises the errors of `Engine.generate`. Closing it
    closes the connection at once."""
    async with http.stream(path, body) as stream:
        if stream.status != 200:
            raise reading.refused(await stream.error())
        hit("answers.after_call_begun")
        while True:
            try:
                events = await stream.read()
            except EngineFailed:
                if reading.ended() is None:
                    raise
                events = None  # nothing but a number is missing
            if events is None:
                break
            for data in events:
                said = _judge(http.name, reading, data)
                hit("answers.after_token")
                stream.wait_at_most(
                    http.timers.between_tokens_seconds_max
                    if reading.ended() is None
                    else AFTER_FINISH_SECONDS_MAX
                )
                for one in said:
                    yield one
                    if isinstance(one, Finished):
                        await stream.finish()
                        return
        finished = reading.ended()
        if finished is None:
            raise EngineFailed(f"{http.name}: its stream ended without a finish reason")
        yield finished


def _judge(name: str, reading: Reading, data: bytes) -> tuple[Token | Finished, ...]:
    try:
        return reading.event(data)
    except Malformed as error:
        raise EngineFailed(f"{name}: {error}") from error
