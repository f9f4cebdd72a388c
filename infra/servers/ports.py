"""What an embedded server keeps between starts beside its data: its ports and its passwords."""

from __future__ import annotations

import fcntl
import json
import os
import random
import secrets
import socket
import tempfile
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

LOCALHOST = "127.0.0.1"
SERVER_PORTS = range(20_000, 32_000)
"""Below those that systems give to outgoing connections: while a server is away, none of these
takes its port."""
PORT_TRIES_MAX = 20  # a port that is in use, or kept for another server, is rare
SECRET_BYTES = 24


def write_private(path: Path, text: str) -> None:
    """Replaces a file in one step; only its owner may read it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)


def is_free(port: int) -> bool:
    """Says whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCALHOST, port))
        except OSError:
            return False
        return True


_given: set[int] = set()
"""By this process."""


@cache
def _ledger() -> int:
    """A file of which each process that chooses ports locks one byte a port. The kernel gives the
    locks back when the process ends, however it ends; a fork does not have them."""
    path = Path(tempfile.gettempdir()) / f"thalweg-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def reserve(port: int) -> bool:
    """Keeps a port from every other process that asks here, for as long as this one lives: whoever
    is to listen there may do so later, or not now. False: it has been given to another process."""
    try:
        fcntl.lockf(_ledger(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except BlockingIOError:
        return False
    except OSError:  # without a ledger two may choose the same, as long as neither listens
        pass
    _given.add(port)
    return True


def free_port(kept: Collection[int] = ()) -> int:
    """One where a server could listen, that is not `kept` for another, and that nobody is given as
    long as this process lives. Raises OSError."""
    for port in random.sample(SERVER_PORTS, k=PORT_TRIES_MAX):
        if port not in kept and port not in _given and is_free(port) and reserve(port):
            return port
    raise OSError(f"{PORT_TRIES_MAX} of the ports in {SERVER_PORTS} are all in use")


def answers(port: int, seconds_max: float = 0.5) -> bool:
    """Says whether somebody listens there."""
    try:
        socket.create_connection((LOCALHOST, port), timeout=seconds_max).close()
    except OSError:
        return False
    return True


class Memory:
    """`servers.json` in the home folder (mode 600), written by the holder of the home alone."""

    def __init__(self, home: Path) -> None:
        self._path = home / "servers.json"
        try:
            self._held: dict[str, Any] = json.loads(self._path.read_text())
        except FileNotFoundError:
            self._held = {}

    def port(self, name: str, *, rechoose: bool) -> int:
        """The port kept under this name; with `rechoose` a new one if somebody else took it."""
        ports: dict[str, int] = self._held.setdefault("ports", {})
        if name in ports and (not rechoose or (is_free(ports[name]) and reserve(ports[name]))):
            return ports[name]
        port = ports[name] = free_port(ports.values())
        self._save()
        return port

    def secret(self, name: str) -> str:
        """The password kept under this name, made when first asked for."""
        kept: dict[str, str] = self._held.setdefault("secrets", {})
        if name not in kept:
            kept[name] = secrets.token_urlsafe(SECRET_BYTES)
            self._save()
        return kept[name]

    def _save(self) -> None:
        write_private(self._path, json.dumps(self._held, indent=1))
