"""`thalweg doctor`: looks at what a start relies on and says what to do about what is wrong."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from infra.home import is_held
from infra.servers import EmbeddedServers, resolve
from infra.servers.ports import is_free
from infra.settings import CONTEXTS, EngineAddress, Settings, SettingsRefused

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

FAILED = 1
ASK_SECONDS_MAX = 5
PROBE_SECONDS_MAX = 30  # a busy engine queues the probe
DISK_BYTES_MIN = 2_000_000_000  # what a few days of use of one machine's installation take
REPLICAS_MIN = 3  # one may be away and another be lost: DESIGN.md
IN_SYNC_REPLICAS_MIN = 2
FORBIDDEN = "POSTGRES_ENABLE_DB_FUNCTIONS"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `todo` is empty if it is well."""

    what: str
    todo: str = ""


class Check(Protocol):
    """Looks at one thing."""

    __name__: str

    def __call__(self, settings: Settings, /) -> Iterator[Finding]: ...


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
    if "postgres" not in embedded or running:
        checks.append(postgres)
    if settings.engines or running:
        checks.append(engines)
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


def kafka(settings: Settings) -> Iterator[Finding]:
    """The cluster answers, and keeps what it acknowledged when a broker is lost."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    address = settings.kafka_servers
    client = AdminClient({"bootstrap.servers": address, "log_level": 0})
    try:
        brokers = client.list_topics(timeout=ASK_SECONDS_MAX).brokers
        yield Finding(f"Kafka at {address} has {len(brokers)} broker(s)")
        if not settings.single_machine:
            yield from durability(client, list(brokers))
        yield topics(settings)
    except KafkaException as problem:
        todo = "Start it, or correct THALWEG_KAFKA."
        yield Finding(f"Kafka at {address}: {problem.args[0].str()}", todo)


def topics(settings: Settings) -> Finding:
    """What a start would say about the topics."""
    from infra.kafka.topics import TopicsMissing, check_topics
    from infra.wiring import TOPICS

    try:
        asyncio.run(check_topics(settings.kafka_servers, TOPICS, settings))
    except TopicsMissing as missing:
        return Finding(str(missing), "Or start with `thalweg up`, which makes them too.")
    except Exception as problem:
        return Finding(f"the topics: {type(problem).__name__}", f"{problem}.")
    return Finding("the topics are as they should be")


def durability(client: AdminClient, brokers: list[int]) -> Iterator[Finding]:
    """A shown token is as safe as the cluster: three copies, two of them at every write."""
    from confluent_kafka.admin._config import ConfigResource
    from confluent_kafka.admin._resource import ResourceType

    single = "or say THALWEG_SINGLE_MACHINE=true if this is meant."
    few = f"Run at least {REPLICAS_MIN} brokers, {single}" if len(brokers) < REPLICAS_MIN else ""
    yield Finding(f"Kafka can keep {min(len(brokers), REPLICAS_MIN)} copies", few)
    resource = ConfigResource(ResourceType.BROKER, str(brokers[0]))
    found = client.describe_configs([resource])[resource].result(ASK_SECONDS_MAX)
    copies = int(found["default.replication.factor"].value)
    todo = f"Set it to {REPLICAS_MIN} on every broker, {single}" if copies < REPLICAS_MIN else ""
    yield Finding(f"default.replication.factor is {copies}", todo)
    in_sync = int(found["min.insync.replicas"].value)
    least = IN_SYNC_REPLICAS_MIN
    todo = f"Set it to {least} on every broker, {single}" if in_sync < least else ""
    yield Finding(f"min.insync.replicas is {in_sync}", todo)
    unclean = found["unclean.leader.election.enable"].value == "true"
    todo = "Set it to false: an empty broker could become the leader." if unclean else ""
    yield Finding(f"unclean.leader.election.enable is {str(unclean).lower()}", todo)


def redis(settings: Settings) -> Iterator[Finding]:
    """Live streams."""
    from redis import Redis, RedisError

    try:
        with Redis.from_url(settings.redis_url, socket_timeout=ASK_SECONDS_MAX) as client:
            client.ping()
        yield Finding("Redis answers")
    except (RedisError, OSError) as problem:
        yield Finding(f"Redis: {problem}", "Start it, or correct THALWEG_REDIS.")


def postgres(settings: Settings) -> Iterator[Finding]:
    """Each context's database."""
    import psycopg

    for context in CONTEXTS:
        url = settings.database_url(context)
        try:
            with psycopg.connect(url, connect_timeout=ASK_SECONDS_MAX) as connection:
                version = connection.info.server_version // 10_000
            yield Finding(f"the database of {context} answers (PostgreSQL {version})")
        except (psycopg.Error, LookupError) as problem:
            todo = f"Start it, or correct THALWEG_{context.upper()}_DATABASE_URL."
            yield Finding(f"the database of {context}: {problem}", todo)


def engines(settings: Settings) -> Iterator[Finding]:
    """Each engine says a token when asked by a client that is not ours."""
    for engine in settings.engines:
        try:
            said = _ask_tgi(engine) if engine.kind == "tgi" else _ask_openai(engine)
            yield Finding(f"the engine {engine} {said}")
        except Exception as problem:
            todo = "Start it, or correct THALWEG_ENGINES."
            yield Finding(f"the engine {engine}: {type(problem).__name__}: {problem}", todo)


def _ask_tgi(engine: EngineAddress) -> str:
    from text_generation import Client

    answer = Client(engine.url, timeout=PROBE_SECONDS_MAX).generate("A river", max_new_tokens=1)
    return f"said {answer.generated_text!r}"


def _ask_openai(engine: EngineAddress) -> str:
    if urlsplit(engine.url).scheme not in ("http", "https"):
        raise ValueError("it should be http or https")
    request = Request(f"{engine.url}/models", headers={"Accept": "application/json"})  # noqa: S310
    with urlopen(request, timeout=PROBE_SECONDS_MAX) as response:  # noqa: S310
        names = [entry["id"] for entry in json.load(response)["data"]]
    return f"serves {', '.join(names)}"
