"""Sagas: what has gone so far that a person should look into it."""

from __future__ import annotations

from collections.abc import Iterator

from infra.checks.findings import ASK_SECONDS_MAX, Finding
from infra.settings import Settings

TODO = {
    "alarm": "Look into the logs of the answering workers and the recorder, for this id: what was "
    "asked for again so often was not ended by anybody. docs/operations.md says more.",
    "unreadable": "Update every role to the newest version in use; what the event is about is not "
    "watched.",
}
WORDS = {"alarm": "instances that need a person", "unreadable": "events that can't be read"}


def sagas(settings: Settings) -> Iterator[Finding]:
    """What each has given up."""
    import psycopg

    from infra.sagas.tables import TROUBLES

    try:
        url = settings.database_url("sagas")
    except LookupError:
        return  # only a start brings it up
    try:
        with psycopg.connect(url, connect_timeout=ASK_SECONDS_MAX) as connection:
            found = connection.execute(TROUBLES).fetchall()
    except psycopg.errors.UndefinedTable:
        yield Finding("no saga has run yet", "Run `thalweg prepare`, and the role sagas.")
        return
    except psycopg.Error:
        return  # the check of the databases says so
    for saga, what, count, since, one in found:
        yield Finding(
            f"saga {saga}: {count} {WORDS[what]}, since {since:%Y-%m-%d %H:%M}, the first {one}",
            TODO[what],
        )
    if not found:
        yield Finding("no saga has given anything up")
