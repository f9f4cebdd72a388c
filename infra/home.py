"""The home folder of one installation: who holds it, what runs in it, the first API key."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from infra.servers.ports import write_private


class HomeTaken(Exception):
    """Another supervisor works in this home folder."""

    def __init__(self, home: Path, pid: str) -> None:
        super().__init__(
            f"Thalweg already runs in {home} (pid {pid or 'unknown'}). `thalweg ps` shows it; for "
            "another one beside it set THALWEG_HOME and THALWEG_PORT."
        )


@dataclass
class Part:
    """One server or role, as `thalweg ps` shows it."""

    role: str
    pid: int | None = None
    ports: dict[str, int] = field(default_factory=dict)
    state: str = "starting"


@contextmanager
def hold(home: Path) -> Iterator[None]:
    """Holds the home folder alone; the kernel lets go of it when this process ends in any way."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeTaken(home, os.read(descriptor, 20).decode().strip()) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_held(home: Path) -> bool:
    """Whether a supervisor works in this home folder now."""
    try:
        descriptor = os.open(home / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def write_state(home: Path, parts: list[Part], *, address: str) -> None:
    """Replaces `state.json` in one step."""
    state = {
        "supervisor": os.getpid(),
        "address": address,
        "processes": [asdict(part) for part in parts],
    }
    write_private(home / "state.json", json.dumps(state, indent=1))


def read_state(home: Path) -> list[Part]:
    """What runs in this home folder; nothing, if its supervisor does not."""
    if not is_held(home):
        return []
    try:
        state = json.loads((home / "state.json").read_text())
    except (FileNotFoundError, ValueError):
        return []
    return [Part(**entry) for entry in state["processes"]]
