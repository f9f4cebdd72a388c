"""Real servers as child processes in a home folder: PostgreSQL, Redis and Kafka, for one machine.

`EmbeddedServers` starts those that are asked for, side by side, and stops them. Nothing in the
rest of the code knows that they are embedded: it gets their addresses as settings, like anybody's
servers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from infra.engine_addresses import EngineAddress
from infra.servers.kafka import KafkaServer
from infra.servers.ports import Memory
from infra.servers.postgres import PostgresServer
from infra.servers.process import ServerDidNotStart, ServerProcess
from infra.servers.redis import RedisServer
from infra.settings import CONTEXTS, Settings

__all__ = ["EmbeddedServers", "ServerDidNotStart", "resolve"]

S = TypeVar("S", bound=ServerProcess)
ALL = ("postgres", "redis", "kafka")


class EmbeddedServers:
    """The servers of one home folder. Starting and stopping is synchronous and may be repeated.

    One owner a home: the supervisor holds a lock before it uses this; a test has a folder of its
    own.
    """

    def __init__(
        self,
        home: Path,
        *,
        cache: Path | None = None,
        which: Iterable[str] = ALL,
        start_seconds_max: float = 120,
        stop_seconds_max: float = 15,
        log_bytes_max: int = 10_485_760,
        redis_bytes_max: int = 268_435_456,
    ) -> None:
        self.home = home.absolute()
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)

        def make(kind: type[S]) -> S:
            return kind(
                self.home,
                start_seconds_max=start_seconds_max,
                stop_seconds_max=stop_seconds_max,
                log_bytes_max=log_bytes_max,
            )

        self.postgres = make(PostgresServer)
        self.redis = make(RedisServer)
        self.redis.memory_bytes_max = redis_bytes_max
        self.kafka = make(KafkaServer)
        if cache is not None:
            self.kafka.cache = cache.expanduser().absolute()
        every: tuple[ServerProcess, ...] = (self.postgres, self.redis, self.kafka)
        self.servers = {server.name: server for server in every if server.name in set(which)}
        self.memory = Memory(self.home)
        self._settled = False
        for server in self.servers.values():
            server.choose(self.memory, rechoose=False)

    @staticmethod
    def needed(settings: Settings) -> list[str]:
        """The names of the servers that the settings do not replace."""
        databases = [getattr(settings, f"{context}_database_url") for context in CONTEXTS]
        needs = {"postgres": None in databases, "redis": settings.redis is None}
        needs["kafka"] = settings.kafka is None
        return [name for name, is_needed in needs.items() if is_needed]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those servers that the settings do not replace by the user's own."""
        return cls(
            settings.home,
            cache=settings.cache,
            which=cls.needed(settings),
            start_seconds_max=settings.start_seconds_max,
            stop_seconds_max=settings.stop_seconds_max,
            log_bytes_max=settings.log_bytes_max,
            redis_bytes_max=settings.redis_bytes_max,
        )

    def settle(self) -> None:
        """Ends what a killed run left behind and replaces ports that somebody else took meanwhile.

        From here on the addresses hold. `start` does it too, if nobody did.
        """
        if not self._settled:
            for server in self.servers.values():
                server.settle(self.memory)
            self.memory.port("engine", rechoose=True)
            self._settled = True

    def start(
        self, *names: str, progress: Callable[[str, str], None] = lambda name, state: None
    ) -> None:
        """Starts the named ones (all, if none is named) and returns when they answer.

        `progress(name, state)` may be called from several threads. If one fails, its
        `ServerDidNotStart` is raised after the others have settled.
        """
        self.settle()
        chosen = [self.servers[name] for name in names or self.servers]
        if not chosen:
            return
        with ThreadPoolExecutor(len(chosen)) as pool:
            jobs = [pool.submit(self._start_one, server, progress) for server in chosen]
        for job in jobs:
            job.result()

    def _start_one(self, server: ServerProcess, progress: Callable[[str, str], None]) -> None:
        progress(server.name, "starting")
        if isinstance(server, KafkaServer):
            server.download(lambda done, of: progress("kafka", f"downloading {done} of {of} jars"))
        server.start()
        progress(server.name, "ready")

    def stop(self, *names: str) -> None:
        """Stops the named ones (all, if none is named), side by side, within their bounds."""
        chosen = [self.servers[name] for name in names or self.servers]
        if not chosen:
            return
        with ThreadPoolExecutor(len(chosen)) as pool:
            for job in [pool.submit(server.stop) for server in chosen]:
                job.result()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def kafka_bootstrap(self) -> str:
        """`host:port`."""
        return self.kafka.bootstrap

    @property
    def redis_url(self) -> str:
        """`redis://...`, with the password."""
        return self.redis.url

    def database_url(self, context: str) -> str:
        """`postgresql://...` of a context's database, as its own role."""
        return self.postgres.url(context)

    @property
    def pids(self) -> dict[str, int | None]:
        """The servers' own pids by name; None while one is down."""
        return {name: server.pid for name, server in self.servers.items()}

    def fill_in(self, settings: Settings) -> Settings:
        """The settings with these servers' addresses, and the local engine's if none is named."""
        found: dict[str, object] = {}
        if "kafka" in self.servers:
            found["kafka"] = self.kafka_bootstrap
        if "redis" in self.servers:
            found["redis"] = self.redis_url
        if "postgres" in self.servers:
            for context in CONTEXTS:
                field = f"{context}_database_url"
                if getattr(settings, field) is None:
                    found[field] = self.database_url(context)
        if not settings.engines:
            port = settings.engine_port or self.memory.port("engine", rechoose=False)
            found["engine_port"] = port
            found["engines"] = (EngineAddress(kind="tgi", url=f"http://127.0.0.1:{port}"),)
        return settings.model_copy(update=found)


def resolve(settings: Settings) -> Settings:
    """For commands beside a running `thalweg up`: the settings with its servers' addresses."""
    if not (settings.home / "servers.json").exists():
        return settings
    return EmbeddedServers.of(settings).fill_in(settings)
