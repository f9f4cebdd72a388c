"""A connection of the read models that hits failpoints inside transactions.

The transactions are made in projections/, which knows nothing of failpoints.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.rows import TupleRow

from infra.failpoints import hit


class FailingConnection(psycopg.Connection[TupleRow]):
    """Used instead of psycopg's own where failpoints are on."""

    _depth = 0

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Iterator[psycopg.Transaction]:
        self._depth += 1
        is_inner = self._depth > 1
        try:
            with super().transaction(savepoint_name, force_rollback) as transaction:
                yield transaction
                hit("projections.after_rows") if is_inner else hit("projections.before_commit")
        except Exception:
            if is_inner:
                hit("projections.after_refusal")
            raise
        finally:
            self._depth -= 1
