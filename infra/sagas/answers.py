"""Asks the event store for an answer once more. See sagas/answers.py for why."""

import logging
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from commands.conversations import CONVERSATIONS, AskAgain, ask_again
from commands.errors import Busy, Refused, StoreSaturated, StoreUnavailable, UnknownAnswer
from commands.store import EventStore
from commands.submit import Commands, fingerprint
from events import trace
from events.codec import Undecodable
from events.envelope import Meta
from infra.sagas.work import Unavailable
from sagas.answers import Again
from sagas.saga import Answer, Answered

log = logging.getLogger("thalweg.sagas")

ACTOR = "sagas"


class Known(Protocol):
    """An answer, by the store's clock."""

    @property
    def ended(self) -> bool: ...
    @property
    def seconds_left(self) -> float: ...


class Store(EventStore, Protocol):
    """The event store of conversations, and its index of answers."""

    async def find_answer(self, answer: UUID) -> Known | None: ...


class AskingAgain:
    """See infra.sagas.work.Sender."""

    def __init__(self, store: Store, *, event_bytes_max: int) -> None:
        self._store = store
        self._commands = Commands(store, CONVERSATIONS, event_bytes_max=event_bytes_max)

    async def send(self, command: Again) -> Answered[Again]:
        """Only what the store itself takes for open and late is asked for: it has the one clock,
        and an end that it knows of may be on its way to the saga still."""
        try:
            found = await self._store.find_answer(command.answer)
            if found is None:
                log.error("nobody knows this answer", extra={"answer": str(command.answer)})
            if found is None or found.ended:
                return Answered(command, Answer.POINTLESS)
            if found.seconds_left > 0:
                return Answered(command, Answer.TOO_EARLY, found.seconds_left)
            return Answered(command, await self._ask(command))
        except (StoreUnavailable, StoreSaturated, Busy) as error:
            raise Unavailable(str(error)) from error
        except UnknownAnswer:
            return Answered(command, Answer.POINTLESS)
        except (Refused, Undecodable) as error:
            log.error(
                "an answer can't be asked for again",
                extra={"answer": str(command.answer), "reason": str(error)},
            )
            return Answered(command, Answer.REFUSED)

    async def _ask(self, command: Again) -> Answer:
        asked = AskAgain(command.conversation, command.answer, command.times)
        meta = Meta(
            tenant=command.tenant,
            command=command.id,
            actor=ACTOR,
            subject=ACTOR,
            time=datetime.now(UTC),
            correlation=command.correlation,
            causation=command.causation,
            traceparent=command.traceparent,
        )
        with trace.within(command.traceparent):
            await self._commands.submit(
                command.conversation,
                lambda state: ask_again(state, asked),
                meta,
                fingerprint("ask-again", str(command.answer), str(command.times)),
                subject_of_stream=True,
            )
            log.warning(
                "an answer that was open past its deadline is asked for again",
                extra={"answer": str(command.answer), "times": command.times},
            )
        return Answer.DONE
