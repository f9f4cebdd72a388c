"""What the verbs of `thalweg dead-letters` do, in every build that is fed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from infra.projections import connect, known_builds
from infra.settings import Settings
from projections import dead_letters
from projections.dead_letters import NotParked, Outcome
from projections.projection import Projection
from projections.tables import Db

FAILED = 1
REFUSED = 2
SHOWN_MAX = 1_000
"""Lines of one listing; decide about some, and list again."""


def list_all(settings: Settings, name: str | None, *, as_json: bool) -> int:
    with _builds(settings, name) as (connection, builds):
        found = [row for one in builds for row in _rows(connection, one)]
    if as_json:
        print(json.dumps(found))
        return 0
    for row in found:
        print(
            f"{row['projection']:14}  {row['stream']}  at {row['position']}"
            f"  {row['waiting']} waiting  since {row['since']}  {row['problem']}"
        )
    if not found:
        print("Nothing is parked.")
    return 0


def show(settings: Settings, name: str, stream: str) -> int:
    with _builds(settings, name) as (connection, builds):
        id_ = _stream(stream)
        for one in builds:
            tables = one.tables
            for letter in dead_letters.letters(connection, tables, id_, limit=SHOWN_MAX):
                kept = letter.delivery
                place = f"{kept.topic}:{kept.partition}:{kept.offset}"
                print(f"{tables.label}  position {kept.position}  {place}  {letter.problem}")
                for header, value in kept.headers:
                    print(f"  {header}: {value.decode(errors='replace')}")
                print(f"  {(kept.value or b'').decode(errors='replace')}")
            for made in dead_letters.decisions(connection, tables, id_, limit=SHOWN_MAX):
                print(
                    f"{tables.label}  {made.decision} at position {made.position}"
                    f" by {made.by}, {made.at:%Y-%m-%d %H:%M:%S}: {made.problem}"
                )
    return 0


def retry(settings: Settings, name: str, stream: str | None, *, by: str) -> int:
    outcomes: list[Outcome] = []
    with _builds(settings, name) as (connection, builds):
        wanted = None if stream is None else _stream(stream)
        for one in builds:
            for parked in dead_letters.parked_streams(connection, one.tables, limit=SHOWN_MAX):
                if wanted is None or parked.stream == wanted:
                    outcome = dead_letters.retry(connection, one, parked.stream, by=by)
                    _tell(one, parked.stream, outcome)
                    outcomes.append(outcome)
    if wanted is not None and not outcomes:
        raise NotParked(f"{wanted} is not parked in {name}")
    return FAILED if any(outcome.left for outcome in outcomes) else 0


def discard(settings: Settings, name: str, stream: str, position: int | None, *, by: str) -> int:
    with _builds(settings, name) as (connection, builds):
        if ":" in stream:
            return _discard_letter(connection, builds, stream, by)
        if position is None:
            print("Which position? `thalweg dead-letters show` says it.", file=sys.stderr)
            return REFUSED
        id_, found = _stream(stream), False
        for one in builds:
            try:
                outcome = dead_letters.discard(connection, one, id_, position, by=by)
            except NotParked:
                continue
            found = True
            print(f"{one.tables.label}: went on past position {position} of {id_}, without it.")
            _tell(one, id_, outcome)
    if not found:
        raise NotParked(f"{id_} is not parked in {name}")
    return 0


def _discard_letter(connection: Db, builds: list[Projection], place: str, by: str) -> int:
    try:
        topic, partition, offset = place.rsplit(":", 2)
        where = topic, int(partition), int(offset)
    except ValueError:
        raise LookupError(f"{place!r} is not topic:partition:offset") from None
    found = False
    for one in builds:
        try:
            outcome = dead_letters.discard_letter(connection, one, *where, by=by)
        except NotParked:
            continue
        found = True
        print(f"{one.tables.label}: {place} is discarded.")
        if outcome is not None:
            print(f"{one.tables.label}: {outcome.applied} events of its stream applied.")
    if not found:
        raise NotParked(f"there is no dead letter at {place}")
    return 0


def _rows(connection: Db, one: Projection) -> Iterator[dict[str, object]]:
    tables = one.tables
    for parked in dead_letters.parked_streams(connection, tables, limit=SHOWN_MAX):
        yield {
            "projection": tables.label,
            "stream": str(parked.stream),
            "position": parked.position,
            "waiting": parked.letters,
            "since": parked.parked_at.isoformat(timespec="seconds"),
            "problem": parked.problem,
        }
    for stray in dead_letters.strays(connection, tables, limit=SHOWN_MAX):
        yield {
            "projection": tables.label,
            "stream": f"{stray.topic}:{stray.partition}:{stray.offset}",
            "position": 0,
            "waiting": 1,
            "since": stray.at.isoformat(timespec="seconds"),
            "problem": stray.problem,
        }


def _tell(one: Projection, stream: UUID, outcome: Outcome) -> None:
    print(
        f"{one.tables.label}: {outcome.applied} events of {stream} applied, up to position"
        f" {outcome.position}; "
        + (
            f"{outcome.left} wait: {outcome.problem}."
            if outcome.left
            else "the stream is free again."
        )
    )


def _stream(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise LookupError(f"{text!r} is not the id of a stream") from None


@contextmanager
def _builds(settings: Settings, name: str | None) -> Iterator[tuple[Db, list[Projection]]]:
    with connect(settings.database_url("projections")) as connection:
        yield connection, known_builds(connection, name)
