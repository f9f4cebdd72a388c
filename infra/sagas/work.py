"""Lets the timers of a saga fire, and sends its commands until it is known what came of each.

Any number of processes do this side by side: rows that another one holds are passed over, and a
command that is sent twice takes effect once, for its id is the same.
"""

import logging
from typing import Generic, Protocol
from uuid import UUID

from infra.failpoints import hit
from infra.sagas import tables
from infra.sagas.changes import Changes, known_of, locked
from infra.sagas.tables import Db
from sagas.saga import Answer, Answered, Fired, Saga, Sent, State

log = logging.getLogger("thalweg.sagas")

TIMERS_AT_ONCE_MAX = 200
COMMANDS_AT_ONCE_MAX = 50
TAKEN_SECONDS = 60.0
"""Commands that were taken and not finished are sent again after this long: their process died, or
what they are for was away. Longer than it takes to send so many."""


class Unavailable(Exception):
    """It is not known what came of a command: send it again."""


class Sender(Protocol[Sent]):
    """The way to the contexts that commands are for."""

    async def send(self, command: Sent) -> Answered[Sent]:
        """Raises Unavailable. May be called with the same command again."""


class Work(Generic[State, Sent]):
    """On one connection. Whatever fails is done again by the next call."""

    def __init__(self, saga: Saga[State, Sent], sender: Sender[Sent], connection: Db) -> None:
        self._saga = saga
        self._sender = sender
        self._connection = connection

    async def do_all(self) -> None:
        """What is due by now. Raises what psycopg raises."""
        while await self.fire() == TIMERS_AT_ONCE_MAX:
            pass
        while await self.send() == COMMANDS_AT_ONCE_MAX:
            pass

    async def fire(self) -> int:
        """Lets timers fire that are due; how many."""
        async with self._connection.transaction():
            due = await self._connection.execute(
                tables.LOCK_DUE, (self._saga.name, TIMERS_AT_ONCE_MAX)
            )
            known = known_of(self._saga, await due.fetchall())
            if not known:
                return 0
            taken = await self._connection.execute(tables.TAKE_DUE, (self._saga.name, list(known)))
            changes: Changes[State, Sent] = Changes(self._saga, known)
            fired = await taken.fetchall()
            for instance, timer in fired:
                changes.put(instance, Fired(timer))
            await changes.save(self._connection)
            hit("sagas.after_timer")
        hit("sagas.after_firing")
        for instance, timer in fired:
            log.warning(
                "a timer has fired",
                extra={"saga": self._saga.name, "instance": str(instance), "timer": timer},
            )
        return len(fired)

    async def send(self) -> int:
        """Sends commands that nobody else is sending; how many. Those whose outcome is not known
        are left for later."""
        taken = await self._connection.execute(
            tables.TAKE_COMMANDS,
            (TAKEN_SECONDS, self._saga.name, COMMANDS_AT_ONCE_MAX, self._saga.name),
        )
        rows = await taken.fetchall()
        for instance, body in rows:
            hit("sagas.after_take")
            command = self._saga.command.model_validate_json(body)
            about = {"saga": self._saga.name, "instance": str(instance), "command": command.id}
            try:
                answered = await self._sender.send(command)
            except Unavailable as error:
                log.warning("a command is sent later", extra={**about, "reason": str(error)})
                continue
            hit("sagas.after_send")
            severity = logging.ERROR if answered.answer is Answer.REFUSED else logging.INFO
            log.log(severity, "a command was sent", extra={**about, "answer": answered.answer})
            await self._finish(instance, answered)
        return len(rows)

    async def _finish(self, instance: UUID, answered: Answered[Sent]) -> None:
        """The outcome, and that the command need not be sent again, in one transaction."""
        async with self._connection.transaction():
            changes = await locked(self._connection, self._saga, [instance])
            done = await self._connection.execute(
                tables.FINISH_COMMAND, (self._saga.name, answered.command.id)
            )
            if done.rowcount:  # else another process has sent it too
                changes.put(instance, answered)
                await changes.save(self._connection)
            hit("sagas.after_outcome")
