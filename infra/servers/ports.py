"""What an embedded server keeps between starts beside its data: its ports and its passwords."""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
from collections.abc import Collection
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


def free_port(kept: Collection[int] = ()) -> int:
    """One where a server could listen, and that is not `kept` for another. Raises OSError."""
    for port in random.sample(SERVER_PORTS, k=PORT_TRIES_MAX):
        if port not in kept and is_free(port):
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
        if name in ports and (not rechoose or is_free(ports[name])):
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
