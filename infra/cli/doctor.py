"""`thalweg doctor`: looks at what a start relies on and says what to do about what is wrong."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
from collections.abc import Iterator

from infra.checks.collector import collector
from infra.checks.databases import postgres
from infra.checks.engines import engines
from infra.checks.findings import ASK_SECONDS_MAX, Check, Finding
from infra.checks.kafka import kafka
from infra.checks.redis import redis
from infra.checks.sagas import sagas
from infra.home import is_held
from infra.servers import EmbeddedServers, resolve
from infra.servers.ports import is_free
from infra.settings import Settings, SettingsRefused

FAILED = 1
DISK_BYTES_MIN = 2_000_000_000  # what a few days of use of one machine's installation take
FORBIDDEN = "POSTGRES_ENABLE_DB_FUNCTIONS"


def doctor() -> int:
    """Prints a line for each thing looked at; the exit status says whether all is well."""
    try:
        settings = Settings.load()
    except SettingsRefused as refused:
        for problem in refused.problems:
            print(f"wrong  {problem}")
        return FAILED
    try:
        running = is_held(settings.home)
        known = resolve(settings) if running else settings
    except (OSError, ValueError) as problem:
        print(f"wrong  {settings.home} can't be read: {type(problem).__name__}: {problem}")
        print("       Correct its permissions, or set THALWEG_HOME to another folder.")
        return FAILED
    embedded = set(EmbeddedServers.needed(settings))
    checks: list[Check] = [python, surroundings, disk, port]
    if "kafka" not in embedded or running:
        checks.append(kafka)
    if "redis" not in embedded or running:
        checks.append(redis)
    checks += [postgres, sagas]
    if settings.engines or running:
        checks.append(engines)
    if settings.otlp_endpoint:
        checks.append(collector)
    status = 0
    for check in checks:
        for finding in _findings(check, known):
            print(f"{'wrong' if finding.todo else 'well '}  {finding.what}")
            if finding.todo:
                status = FAILED
                print(f"       {finding.todo}")
    if not running:
        print("       Nothing runs here, so what `thalweg up` starts was not looked at.")
    return status


def _findings(check: Check, settings: Settings) -> Iterator[Finding]:
    """What a check finds; one that breaks is a finding too."""
    try:
        yield from check(settings)
    except Exception as problem:
        what = f"{check.__name__} could not be looked at: {type(problem).__name__}: {problem}"
        yield Finding(what, f"Check the settings of {check.__name__}, and that it runs.")


def python(settings: Settings) -> Iterator[Finding]:
    """The interpreter, and a Redis for one that the wheel does not know."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    todo = "" if sys.version_info >= (3, 11) else "Use Python 3.11 or 3.12."
    yield Finding(f"Python {version}", todo)
    if settings.redis is None:
        from infra.servers.redis import binary

        try:
            yield Finding(f"Redis is {binary()}")
        except LookupError as missing:
            yield Finding("Redis is missing", f"{missing}.")


def surroundings(settings: Settings) -> Iterator[Finding]:
    """Variables that would change what a library promises."""
    todo = f"Unset {FORBIDDEN}: with it the event store's order is not kept and events are missed."
    is_set = FORBIDDEN in os.environ
    yield Finding(f"{FORBIDDEN} is {'set' if is_set else 'not set'}", todo if is_set else "")


def disk(settings: Settings) -> Iterator[Finding]:
    """Room for the data."""
    place = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(place).free
    todo = "" if free >= DISK_BYTES_MIN else "Make room, or set THALWEG_HOME to another disk."
    yield Finding(f"{free / 1e9:.1f} GB are free for {settings.home}", todo)
    if not os.access(place, os.W_OK):
        yield Finding(f"{place} can't be written", "Set THALWEG_HOME to a folder of yours.")


def port(settings: Settings) -> Iterator[Finding]:
    """The gateway's port: free, or ours and in good health."""
    if not is_held(settings.home):
        todo = "" if is_free(settings.port) else "Something listens there: set THALWEG_PORT."
        yield Finding(f"port {settings.port}", todo)
        return
    url = f"http://{settings.local_host}:{settings.port}/readyz"
    try:
        connection = http.client.HTTPConnection(
            settings.local_host, settings.port, timeout=ASK_SECONDS_MAX
        )
        connection.request("GET", "/readyz")
        body = json.loads(connection.getresponse().read())
        connection.close()
    except (OSError, ValueError, http.client.HTTPException) as problem:
        yield Finding(f"{url}: {problem}", "See the gateway's log in the home's logs folder.")
        return
    ready = body.get("answers") == "ready"
    todo = "" if ready else f"It says: {json.dumps(body)}"
    yield Finding(f"{url} says that answers are {'ready' if ready else 'not ready'}", todo)
