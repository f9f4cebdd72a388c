"""The tables of the sagas, and the statements on them. Rows of all sagas stand side by side.

What a batch changes is written in one transaction: states, timers, commands that are to be sent,
and where to read on. Whoever changes an instance locks its row first, so that timers, batches and
what comes back from contexts never meet in one.
"""

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

Db = AsyncConnection[TupleRow]

CREATE_LOCK = "SELECT pg_advisory_xact_lock(hashtext('thalweg sagas'))"
CREATE = """
CREATE SCHEMA IF NOT EXISTS sagas;
CREATE TABLE IF NOT EXISTS sagas.offsets (
    saga text, topic text, partition int,
    next_offset bigint NOT NULL,
    PRIMARY KEY (saga, topic, partition));
CREATE TABLE IF NOT EXISTS sagas.instances (
    saga text, instance uuid,
    stream uuid NOT NULL,
    position bigint NOT NULL,
    state text NOT NULL,
    alarm text,
    alarm_since timestamptz,
    PRIMARY KEY (saga, instance));
CREATE INDEX IF NOT EXISTS instances_with_alarm ON sagas.instances (saga)
    WHERE alarm IS NOT NULL;
CREATE TABLE IF NOT EXISTS sagas.timers (
    saga text, instance uuid, name text,
    due timestamptz NOT NULL,
    PRIMARY KEY (saga, instance, name),
    FOREIGN KEY (saga, instance) REFERENCES sagas.instances ON DELETE CASCADE);
CREATE INDEX IF NOT EXISTS timers_by_due ON sagas.timers (saga, due);
CREATE TABLE IF NOT EXISTS sagas.outbox (
    saga text, command text, instance uuid NOT NULL,
    body text NOT NULL,
    taken_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (saga, command));
CREATE TABLE IF NOT EXISTS sagas.unreadable (
    saga text, topic text, partition int, record_offset bigint,
    problem text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (saga, topic, partition, record_offset));
"""
"""`position` is that of the last event that an instance has taken: what is not later is a repeat.
An instance that is over leaves no row: a table of all answers ever would be this saga's only load.
"""

# Where to read on ---------------------------------------------------------------------------------

ENSURE_OFFSETS = """
INSERT INTO sagas.offsets SELECT %s, %s, partition, 0 FROM unnest(%s::int[]) AS partition
ON CONFLICT DO NOTHING
"""
OFFSETS = """
SELECT partition, next_offset FROM sagas.offsets
WHERE saga = %s AND topic = %s AND partition = ANY(%s)
"""
# Whoever has lost a partition while it was paused moves nothing: it is not where that one left it.
MOVE_OFFSETS = """
UPDATE sagas.offsets AS known SET next_offset = moved.after
FROM unnest(%(partitions)s::int[], %(before)s::bigint[], %(after)s::bigint[])
    AS moved (partition, before, after)
WHERE known.saga = %(saga)s AND known.topic = %(topic)s
  AND known.partition = moved.partition AND known.next_offset = moved.before
"""
UNREADABLE = """
INSERT INTO sagas.unreadable (saga, topic, partition, record_offset, problem)
VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""

# Instances ----------------------------------------------------------------------------------------

LOCK_INSTANCES = """
SELECT instance, stream, position, state FROM sagas.instances
WHERE saga = %s AND instance = ANY(%s) ORDER BY instance FOR UPDATE
"""
SAVE_INSTANCES = """
INSERT INTO sagas.instances (saga, instance, stream, position, state, alarm, alarm_since)
SELECT %s, instance, stream, position, state, alarm,
       CASE WHEN alarm IS NOT NULL THEN clock_timestamp() END
FROM unnest(%s::uuid[], %s::uuid[], %s::bigint[], %s::text[], %s::text[])
    AS changed (instance, stream, position, state, alarm)
ON CONFLICT (saga, instance) DO UPDATE SET
    position = excluded.position, state = excluded.state,
    alarm = coalesce(excluded.alarm, sagas.instances.alarm),
    alarm_since = coalesce(sagas.instances.alarm_since, excluded.alarm_since)
"""
END_INSTANCES = "DELETE FROM sagas.instances WHERE saga = %s AND instance = ANY(%s)"

# Timers -------------------------------------------------------------------------------------------

STOP_TIMERS = "DELETE FROM sagas.timers WHERE saga = %s AND instance = ANY(%s)"
# An event's own time is some gateway's. One that is ahead of Postgres would put a timer off.
START_TIMERS = """
INSERT INTO sagas.timers (saga, instance, name, due)
SELECT %s, instance, name,
       least(at, clock_timestamp()) + make_interval(secs => seconds)
FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[], %s::float8[])
    AS started (instance, name, at, seconds)
"""
# The rows that are locked are those of the instances: see above.
LOCK_DUE = """
SELECT timers.instance, instances.stream, position, state
FROM sagas.timers JOIN sagas.instances USING (saga, instance)
WHERE timers.saga = %s AND due <= clock_timestamp()
ORDER BY due LIMIT %s FOR UPDATE OF instances SKIP LOCKED
"""
# Between the look and the lock another process may have let them fire.
TAKE_DUE = """
DELETE FROM sagas.timers
WHERE saga = %s AND instance = ANY(%s) AND due <= clock_timestamp() RETURNING instance, name
"""

# Commands on their way ----------------------------------------------------------------------------

PUT_COMMANDS = """
INSERT INTO sagas.outbox (saga, command, instance, body)
SELECT %s, * FROM unnest(%s::text[], %s::uuid[], %s::text[]) ON CONFLICT DO NOTHING
"""
TAKE_COMMANDS = """
UPDATE sagas.outbox AS taken SET taken_until = clock_timestamp() + make_interval(secs => %s)
FROM (SELECT command FROM sagas.outbox WHERE saga = %s AND taken_until < clock_timestamp()
      ORDER BY taken_until LIMIT %s FOR UPDATE SKIP LOCKED) AS free
WHERE taken.saga = %s AND taken.command = free.command
RETURNING taken.instance, taken.body
"""
FINISH_COMMAND = "DELETE FROM sagas.outbox WHERE saga = %s AND command = %s"

# For people ---------------------------------------------------------------------------------------

READ_UP_TO = """
SELECT saga, partition, next_offset FROM sagas.offsets WHERE topic = %s ORDER BY saga
"""
TROUBLES = """
SELECT saga, 'alarm', count(*), min(alarm_since), min(instance::text) FROM sagas.instances
WHERE alarm IS NOT NULL GROUP BY saga
UNION ALL
SELECT saga, 'unreadable', count(*), min(since),
       min(topic || '/' || partition || '/' || record_offset)
FROM sagas.unreadable GROUP BY saga
"""


async def create(connection: Db) -> None:
    """Makes the tables, where they are missing."""
    async with connection.transaction():
        await connection.execute(CREATE_LOCK)
        await connection.execute(CREATE)
