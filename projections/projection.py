"""What a read model is to those who feed, build, compare and switch it."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import LiteralString, Protocol, TypeVar

from events.envelope import Event, Recorded
from projections.tables import Db, Tables


class Projection(Protocol):
    """One read model: `name@version`, its tables, and what events do to them."""

    tables: Tables
    context: str
    """Whose events it follows."""
    types: frozenset[type[Event]]
    """Those that change its rows; of all others only the position counts."""
    own_tables: LiteralString
    """SQL that makes its tables where they are missing."""
    own_indexes: LiteralString
    """SQL that makes those of its indexes which no `apply` needs, where they are missing."""
    own_suffixes: tuple[str, ...]
    digested_suffixes: tuple[str, ...]
    """Tables whose rows follow from the events alone: those of two builds are compared."""

    def apply(self, connection: Db, events: Sequence[Recorded], *, live: bool) -> None:
        """Writes what the events say, in their order. Any error parks the stream of the event.

        `live`: readers follow this build. Only then are those told who wait for changes.
        """

    def take_over(self, connection: Db, former: Tables) -> None:
        """Called in the switch that makes this build live in place of `former`: carries over what
        does not follow from the events alone. `former` may be of another version.
        """


P = TypeVar("P", bound=Projection)


def beside(projection: P, build: int) -> P:
    """The same projection with the tables of another build."""
    other = copy(projection)
    other.tables = replace(projection.tables, build=build)
    return other
