"""Thalweg, LiteLLM's proxy and OGX, as they are set up for the comparison."""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from string import Template

import psycopg
from psycopg import sql

from infra.servers import EmbeddedServers
from infra.servers.ports import free_port
from tests.bench.client import CHAT, RESPONSES, Target
from tests.bench.peers.subject import Command, Subject, version_of
from tests.fixtures.processes import family, wait_for
from tests.fixtures.thalweg import RunningThalweg

HERE = Path(__file__).parent
SERVERS = ("postgres", "redis", "kafka")
BACK_SECONDS_MAX = 60
LITELLM_KEY = "sk-bench"


class Thalweg(Subject):
    """`thalweg up`; of its answers those with `store: true`, which can be read again."""

    name = "Thalweg"
    settings = "thalweg up, the defaults; store: true"

    def __init__(self, folder: Path, engine_port: int) -> None:
        self._home = folder / "thalweg"
        self._engine = f"tgi+http://127.0.0.1:{engine_port}"

    @property
    def target(self) -> Target:
        return Target(self._running.port, self._running.api_key, extra={"store": True})

    def start(self) -> None:
        self._running = RunningThalweg(self._home, engines=self._engine).start()

    def stop(self) -> None:
        self._running.stop()

    def kill(self) -> None:
        """All roles at once; the supervisor starts them again."""
        self._killed = [
            one["pid"]
            for one in self._running.processes()
            if one["role"] not in SERVERS and one["pid"]
        ]
        for pid in [member for one in self._killed for member in family(one)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def restart(self) -> None:
        def others() -> bool:
            now = {one["pid"] for one in self._running.processes()}
            return not now & set(self._killed) and self._running.is_ready()

        wait_for(others, "Thalweg after its end", seconds_max=BACK_SECONDS_MAX)


class LiteLLM(Subject):
    """Passes on; keeps no answers."""

    name = "LiteLLM"
    settings = "its page on production: one worker, logs of errors only, no spend logs"
    keeps_answers = False

    def __init__(self, folder: Path, engine_port: int, programs: Path) -> None:
        self._port = free_port()
        folder = folder / "litellm"
        folder.mkdir(parents=True)
        program = programs / "litellm"
        self.version = version_of(program, "litellm")
        config = folder / "config.yaml"
        told = Template((HERE / "litellm.yaml").read_text())
        config.write_text(told.substitute(engine_port=engine_port, key=LITELLM_KEY))
        arguments = ("--config", str(config), "--host", "127.0.0.1", "--port", str(self._port))
        self._command = Command(
            program,
            *arguments,
            "--num_workers",
            "1",
            "--telemetry",
            "False",
            folder=folder,
            env={
                "LITELLM_MODE": "PRODUCTION",
                "LITELLM_LOG": "ERROR",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the internet at its start
            },
        )

    @property
    def target(self) -> Target:
        return Target(self._port, LITELLM_KEY)

    def start(self) -> None:
        self._command.start(f"http://127.0.0.1:{self._port}/health/readiness")

    def restart(self) -> None:
        self.start()

    def stop(self) -> None:
        self._command.stop()

    def kill(self) -> None:
        self._command.kill()


class Ogx(Subject):
    """One server with two faces; its store is a PostgreSQL of its own, as for production."""

    settings = (
        "its configuration for PostgreSQL as the store, one worker, logs from warnings on, uvloop"
    )

    def __init__(
        self, folder: Path, engine_port: int, programs: Path, *, path: str, store: str = "postgres"
    ) -> None:
        self.name = {CHAT: "OGX, chat", RESPONSES: "OGX, Responses"}[path]
        self._path, self._store, self._port = path, store, free_port()
        self._folder = folder / f"ogx-{path.rpartition('/')[2]}"
        self._folder.mkdir(parents=True)
        self._engine_port = engine_port
        self._servers = EmbeddedServers(self._folder / "servers", which=["postgres"])
        program = programs / "ogx"
        self.version = version_of(program, "ogx")
        self._config = self._folder / "config.yaml"
        arguments = ("run", str(self._config), "--port", str(self._port), "--insecure")
        env = {"OGX_LOGGING": "all=warning", "OTEL_SDK_DISABLED": "true"}
        self._command = Command(program, *arguments, folder=self._folder, env=env)

    @property
    def target(self) -> Target:
        extra = {"store": True} if self._path == RESPONSES else {}
        return Target(self._port, path=self._path, model="vllm/numbered", extra=extra)

    def start(self) -> None:
        if self._store == "postgres":
            self._servers.start("postgres")
            self._make_database()
        told = Template((HERE / "ogx.yaml").read_text())
        self._config.write_text(
            told.substitute(
                engine_port=self._engine_port,
                folder=self._folder,
                backends=json.dumps(self._backends()),
            )
        )
        self.restart()

    def _backends(self) -> dict[str, dict[str, str | int | bool]]:
        """Its file's part on storage, with the values that OGX ships."""
        if self._store == "sqlite":
            return {
                "kv_default": {"type": "kv_sqlite", "db_path": f"{self._folder}/kvstore.db"},
                "sql_default": {"type": "sql_sqlite", "db_path": f"{self._folder}/sql_store.db"},
            }
        port = self._servers.postgres.ports()["postgres"]
        server: dict[str, str | int | bool] = {
            "host": "127.0.0.1",
            "port": port,
            **dict.fromkeys(("db", "user", "password"), "ogx"),
        }
        pool: dict[str, str | int | bool] = {
            "pool_size": 10,
            "max_overflow": 20,
            "pool_recycle": 3_600,
            "pool_pre_ping": True,
        }
        return {
            "kv_default": {"type": "kv_postgres", "table_name": "ogx_kvstore", **server},
            "sql_default": {"type": "sql_postgres", **server, **pool},
        }

    def restart(self) -> None:
        self._command.start(f"http://127.0.0.1:{self._port}/v1/health")

    def _make_database(self) -> None:
        with psycopg.connect(self._servers.postgres.admin_url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE ogx LOGIN PASSWORD 'ogx'")
            connection.execute(sql.SQL("CREATE DATABASE ogx OWNER ogx"))

    def stop(self) -> None:
        self._command.stop()
        self._servers.stop()

    def kill(self) -> None:
        self._command.kill()
