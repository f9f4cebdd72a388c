"""`thalweg keys`: API keys, made and revoked by commands like any other."""

from __future__ import annotations

import sys
from typing import Any

from infra.cli.run import finish
from infra.servers import resolve
from infra.settings import Settings

FAILED = 1


def create(settings: Settings, *, name: str, tenant: str) -> int:
    """Prints the key alone, so that a script can keep it."""
    from infra import wiring

    return _do(
        lambda known: print(finish(wiring.create_key(known, name=name, tenant=tenant))), settings
    )


def list_all(settings: Settings) -> int:
    """One line a key."""
    from infra import wiring

    def show(known: Settings) -> None:
        for key in finish(wiring.list_keys(known)):
            print("\t".join(str(value) for value in _fields(key)))

    return _do(show, settings)


def revoke(settings: Settings, key: str) -> int:
    """Idempotent."""
    from infra import wiring

    return _do(lambda known: finish(wiring.revoke_key(known, key)), settings)


def _fields(key: Any) -> list[object]:
    return list(key.values()) if isinstance(key, dict) else list(vars(key).values())


def _do(work: Any, settings: Settings) -> int:
    try:
        work(resolve(settings))
    except Exception as problem:
        print(problem, file=sys.stderr)
        return FAILED
    return 0
