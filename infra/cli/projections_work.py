"""What the verbs of `thalweg projections` do."""

from __future__ import annotations

import sys
import time

from infra.projections import connect, known_builds
from infra.settings import Settings
from projections import tables as sqls
from projections import versions
from projections.projection import Projection
from projections.tables import Db
from projections.versions import Offsets, StillBehind

FAILED = 1
CATCH_UP_SECONDS_MAX = 4.0
"""The live build stands still for it; its connection gives up after 5 s."""
LOOK_SECONDS = 0.02


def list_all(settings: Settings) -> int:
    with connect(settings.database_url("projections")) as connection:
        connection.execute(sqls.COMMON)
        for one in versions.builds(connection):
            print(f"{one.tables.label:16}  {one.state:8}  {one.since:%Y-%m-%d %H:%M:%S}")
    return 0


def switch(settings: Settings, label: str) -> int:
    """The role feeds the old build as well: it has only to come to where the live one stands."""
    url = settings.database_url("projections")
    with connect(url) as connection, connect(url) as beside:
        target = _found(connection, label)

        def catch_up(at: Offsets) -> None:
            until = time.monotonic() + CATCH_UP_SECONDS_MAX
            while not _reached(beside, target, at):
                if time.monotonic() > until:
                    raise StillBehind(f"{label} is not at the end of the log")
                time.sleep(LOOK_SECONDS)

        try:
            live = versions.switch(connection, target, catch_up)
        except StillBehind as problem:
            print(f"{problem}; is a process of the role projections running?", file=sys.stderr)
            return FAILED
    print(f"{label} is live now; {live.label} is old.")
    return 0


def drop(settings: Settings, label: str) -> int:
    with connect(settings.database_url("projections")) as connection:
        target = _found(connection, label)
        if not sqls.drop(connection, target.tables, target.own_suffixes):
            print(f"{label} is live: readers follow it.", file=sys.stderr)
            return FAILED
        connection.execute(versions.NOTIFY, (versions.CHANNEL,))
    print(f"{label} is dropped.")
    return 0


def _reached(connection: Db, target: Projection, at: Offsets) -> bool:
    rows = connection.execute(target.tables.compose(versions.ALL_OFFSETS)).fetchall()
    reached = {(topic, partition): offset for topic, partition, offset in rows}
    return all(reached.get(place, 0) >= offset for place, offset in at.items())


def _found(connection: Db, label: str) -> Projection:
    for one in known_builds(connection):
        if one.tables.label == label:
            return one
    raise LookupError(f"there is no build {label!r}; `thalweg projections list` names them")
