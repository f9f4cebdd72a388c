"""PostgreSQL: each context's database answers, and a commit that it acknowledged is on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from infra.checks.findings import ASK_SECONDS_MAX, Finding
from infra.settings import CONTEXTS, Settings

WHY = {
    "fsync": "a power failure may damage the database so that nobody notices.",
    "full_page_writes": "a crash may leave half a page, which cannot be repaired.",
    "synchronous_commit": "an accepted command may be gone after a crash.",
}
READ_AGAIN = ("projections", "sagas")
"""Their rows tell where in the log they are, and what follows is read again: a lost commit costs
nothing; a damaged page does."""
SELECT = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"


def postgres(settings: Settings) -> Iterator[Finding]:
    """Each context's database, but for those that only a start brings up."""
    import psycopg

    for context in CONTEXTS:
        try:
            url = settings.database_url(context)
        except LookupError:
            continue
        try:
            with psycopg.connect(url, connect_timeout=ASK_SECONDS_MAX) as connection:
                version = connection.info.server_version // 10_000
                found: dict[str, str] = dict(connection.execute(SELECT, (list(WHY),)).fetchall())
            yield Finding(f"the database of {context} answers (PostgreSQL {version})")
            yield from safety(context, found)
        except psycopg.Error as problem:
            todo = f"Start it, or correct THALWEG_{context.upper()}_DATABASE_URL."
            yield Finding(f"the database of {context}: {problem}", todo)


def safety(context: str, found: Mapping[str, str]) -> Iterator[Finding]:
    """What its server, or the role, has turned off."""
    matter = [name for name in WHY if context not in READ_AGAIN or name != "synchronous_commit"]
    off = [name for name in matter if found.get(name) == "off"]
    for name in off:
        yield Finding(
            f"the database of {context} has {name}=off",
            f"Turn it on (on the server, and look for ALTER ROLE and ALTER DATABASE): {WHY[name]}",
        )
    if not off:
        yield Finding(f"the database of {context} keeps what it has committed")
