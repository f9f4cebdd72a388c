"""A digest sees every row and every column of content, and nothing else."""

import pytest
from psycopg import sql

from projections.conversations import Histories
from projections.digests import Digest, digest
from projections.projection import beside
from projections.runner import Runner
from projections.tables import Db
from projections.versions import begin
from tests.contracts.projections.deliver import Partition
from tests.projections.histories_events import Told, mixed


@pytest.fixture
def two(db: Db) -> tuple[Digest, Digest]:
    """Of two builds from the same events, in other batches and in another order of streams."""
    log, conversations = (
        Partition(),
        [Told(title="a\0b"), Told(stored=False), Told(metadata={"a": "b"})],
    )
    for told in conversations:
        told.turn("?")
        told.ask()
    first, second = Histories(), beside(Histories(), 2)
    runner = Runner(first, gap_seconds_max=5)
    runner.create(db)
    begin(db, second.tables)
    other = Runner(second, gap_seconds_max=5)
    other.create(db)
    runner.apply(db, log.send(mixed(conversations)))
    for told in reversed(conversations):
        for one in log.send(told.recorded):
            other.apply(db, [one])
    return of(db, 1), of(db, 2)


CHANGED = {
    "uuid": "gen_random_uuid()",
    "text": "concat({column}, 'x')",
    "integer": "coalesce({column}, 0) + 1000",
    "bigint": "coalesce({column}, 0) + 1000",
    "boolean": "NOT {column}",
    "jsonb": "'[9]'::jsonb",
    "timestamp with time zone": "coalesce({column}, now()) + interval '1 second'",
}
"""Another value of each type."""
COLUMNS = (
    "SELECT column_name, data_type FROM information_schema.columns"
    " WHERE table_name = %s AND is_generated = 'NEVER'"
)


def of(db: Db, build: int) -> Digest:
    projection = beside(Histories(), build)
    return digest(db, projection.tables, projection.digested_suffixes)


def test_the_same_events_have_the_same_digest(two: tuple[Digest, Digest]) -> None:
    first, second = two
    assert first == second
    assert first.hex == second.hex
    assert {suffix: table.rows for suffix, table in first.of.items()} == {
        "": 2,
        "nodes": 6,
        "positions": 3,
    }


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        ("UPDATE histories_v1_b2 SET title = 'another' WHERE title IS NOT NULL", [""]),
        ("UPDATE histories_v1_b2 SET unread = '[1]'", [""]),
        ('UPDATE histories_v1_b2 SET metadata = \'{"a": "c"}\' WHERE title IS NULL', [""]),
        ("UPDATE histories_v1_b2_nodes SET text = NULL WHERE role = 'user'", ["nodes"]),
        ("DELETE FROM histories_v1_b2_nodes WHERE position = 2", ["nodes"]),
        ("UPDATE histories_v1_b2_positions SET position = 9", ["positions"]),
        ("UPDATE histories_v1_b2_nodes SET position = position + 10", ["nodes"]),
    ],
)
def test_any_other_row_has_another(
    db: Db, two: tuple[Digest, Digest], damage: str, where: list[str]
) -> None:
    first, second = two
    db.execute(damage)  # type: ignore[arg-type]
    now = of(db, 2)
    assert first.differing(now) == where
    assert now.hex != second.hex


@pytest.mark.parametrize("suffix", ["", "nodes", "positions"])
def test_no_column_is_left_out(db: Db, two: tuple[Digest, Digest], suffix: str) -> None:
    _, second = two
    table = f"histories_v1_b2_{suffix}".rstrip("_")
    columns = db.execute(COLUMNS, (table,)).fetchall()
    assert columns
    for name, kind in columns:
        names = {"table": sql.Identifier(table), "column": sql.Identifier(name)}
        value = sql.SQL(CHANGED[kind]).format(**names)  # type: ignore[arg-type]
        with db.transaction(force_rollback=True):
            db.execute(
                sql.SQL("UPDATE {table} SET {column} = {value}").format(value=value, **names)
            )
            assert of(db, 2).differing(second) == [suffix], name
