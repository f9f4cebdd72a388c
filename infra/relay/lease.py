"""The row that says who leads the relay of a context, and how far it came.

Each leader takes a higher epoch, and moves the position only while the epoch is its own. Kafka
can't refuse a former leader's late sends, so this does not keep them out: it keeps the position
from ever passing an event that was not sent by the leader that moved it.
"""

from dataclasses import dataclass
from uuid import UUID

import orjson
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed, Identifier

from infra.event_store.recorder import EVENTS_TABLE

Connection = AsyncConnection[TupleRow]

LOCK_SECONDS_MAX = 2.0
"""A lease's row is held and waited for by half the lease, and this at most: statements on it take
milliseconds, so whoever holds it for longer is paused, and must not hold up a successor."""


class StoreWasRestored(Exception):
    """The last event that was sent is not in the store: it is not the store that it was."""

    def __init__(self, context: str, position: int, sent: UUID, found: UUID | None) -> None:
        there = "no event" if found is None else f"event {found}"
        super().__init__(
            f"the relay of {context} sent event {sent} from place {position} of the log, but the "
            f"event store has {there} there: it was restored from an older backup, or is another "
            "one. Kafka and the read models know events that the store has lost, so nothing is "
            "sent until a person has decided. Restore a newer backup. Or, to go on with what is "
            "there (streams that have lost events can't be continued), set last_event to NULL and "
            f"position to the highest notification_id of {EVENTS_TABLE}, or to 0 if there is none, "
            f"in the table {context}.relay, and rebuild the read models"
        )
        self.position = position
        self.sent = sent
        self.found = found


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that was taken: everything up to `position` had been sent by then."""

    epoch: int
    position: int
    last_event: UUID | None


TAKE = SQL(
    "UPDATE {schema}.relay SET epoch = epoch + 1, holder = %(holder)s,"
    " session_pid = own.pid, session_start = own.backend_start,"
    " leased_until = clock_timestamp() + make_interval(secs => %(seconds)s)"
    " FROM pg_stat_activity AS own"
    " WHERE own.pid = pg_backend_pid() AND context = %(context)s"
    # A leader that was killed has no session any more: nobody waits for its lease to run out.
    " AND (leased_until < clock_timestamp() OR NOT EXISTS (SELECT FROM pg_stat_activity AS its"
    "  WHERE its.pid = session_pid AND its.backend_start = session_start))"
    " RETURNING epoch, position, last_event"
)
READ = SQL("SELECT epoch, position, last_event FROM {schema}.relay WHERE context = %s")
RENEW = SQL(
    "UPDATE {schema}.relay SET leased_until = clock_timestamp() + make_interval(secs => %s)"
    " WHERE context = %s AND epoch = %s"
)
ADVANCE = SQL(
    "UPDATE {schema}.relay SET position = %s, last_event = %s WHERE context = %s AND epoch = %s"
)
RELEASE = SQL(
    "UPDATE {schema}.relay SET holder = NULL, leased_until = '-infinity'"
    " WHERE context = %s AND epoch = %s"
)
STATE_AT = SQL("SELECT state FROM {schema}.{table} WHERE notification_id = %s")
NOTIFY = SQL("NOTIFY {channel}")
WITHOUT_WAITING = "SET synchronous_commit = off"
BOUNDS = SQL(
    "SELECT set_config('idle_in_transaction_session_timeout', %(bound)s, false),"
    " set_config('lock_timeout', %(bound)s, false)"
)
WAITING = "SET LOCAL synchronous_commit = on"


def released_channel(context: str) -> str:
    """Where a leader that steps down says so."""
    return f"{context}_relay_released"


class Lease:
    """The row of one context, seen through one autocommit connection.

    Only taking the lease waits for the disk: a position that a crash of Postgres sets back is only
    sent again, and the commits of commands have the disk to themselves.
    """

    def __init__(self, connection: Connection, context: str, holder: str, seconds: float) -> None:
        self._connection = connection
        self._context = context
        self._holder = holder
        self._seconds = seconds

    def _sql(self, statement: SQL) -> Composed:
        return statement.format(schema=Identifier(self._context), table=Identifier(EVENTS_TABLE))

    async def prepare(self) -> None:
        """Bounds what a relay that is paused in its transaction may hold up: the row's lock."""
        await self._connection.execute(WITHOUT_WAITING)
        bound = f"{int(min(self._seconds / 2, LOCK_SECONDS_MAX) * 1_000)}ms"
        await self._connection.execute(BOUNDS, {"bound": bound})

    async def take(self) -> Held | None:
        """The lease, if nobody holds it. Raises StoreWasRestored."""
        async with self._connection.transaction():
            await self._connection.execute(WAITING)
            cursor = await self._connection.execute(
                self._sql(TAKE),
                {"holder": self._holder, "seconds": self._seconds, "context": self._context},
            )
            row = await cursor.fetchone()
            if row is None:
                return None
            held = Held(*row)
            await self._verify(held)
            return held

    async def held(self, epoch: int) -> Held | None:
        """The row as it is now, if the lease is still that of `epoch`."""
        cursor = await self._connection.execute(self._sql(READ), (self._context,))
        row = await cursor.fetchone()
        return Held(*row) if row is not None and row[0] == epoch else None

    async def renew(self, epoch: int) -> bool:
        cursor = await self._connection.execute(
            self._sql(RENEW), (self._seconds, self._context, epoch)
        )
        return cursor.rowcount == 1

    async def advance(self, epoch: int, position: int, last_event: UUID) -> bool:
        """Remembers that everything up to `position` was sent; False if another leads by now."""
        cursor = await self._connection.execute(
            self._sql(ADVANCE), (position, last_event, self._context, epoch)
        )
        return cursor.rowcount == 1

    async def release(self, epoch: int) -> None:
        """Lets a successor lead at once."""
        await self._connection.execute(self._sql(RELEASE), (self._context, epoch))
        channel = Identifier(released_channel(self._context))
        await self._connection.execute(NOTIFY.format(channel=channel))

    async def _verify(self, held: Held) -> None:
        if held.last_event is None:
            return
        cursor = await self._connection.execute(self._sql(STATE_AT), (held.position,))
        row = await cursor.fetchone()
        found = UUID(orjson.loads(row[0])["id"]) if row is not None else None
        if found != held.last_event:
            raise StoreWasRestored(self._context, held.position, held.last_event, found)
