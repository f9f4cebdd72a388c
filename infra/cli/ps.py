"""`thalweg ps`: what runs in this home folder."""

from __future__ import annotations

import json
from dataclasses import asdict

from infra.home import read_state
from infra.settings import Settings


def ps(settings: Settings, *, as_json: bool) -> int:
    """Prints the servers and roles, one a line, or as an array of {role, pid, ports, state}."""
    parts = read_state(settings.home)
    if as_json:
        print(json.dumps([asdict(part) for part in parts], indent=1))
        return 0
    if not parts:
        print(f"Nothing runs in {settings.home}; `thalweg up` starts it.")
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("role", "pid", "ports", "state", box=None)
    for part in parts:
        ports = ", ".join(f"{name} {port}" for name, port in part.ports.items())
        table.add_row(part.role, str(part.pid or ""), ports, part.state)
    Console().print(table)
    return 0
