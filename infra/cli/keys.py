"""`thalweg keys`: API keys, made and revoked by commands like any other."""

from __future__ import annotations

import sys
from collections.abc import Callable

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
            state = "revoked" if key.revoked else "valid"
            print(f"{key.id}  {key.created_at:%Y-%m-%d %H:%M}  {state:7}  {key.owner}  {key.name}")

    return _do(show, settings)


def revoke(settings: Settings, key: str) -> int:
    """Takes the key out of service; gateways forget it within seconds."""
    from infra import wiring

    return _do(lambda known: finish(wiring.revoke_key(known, key)), settings)


def _do(work: Callable[[Settings], object], settings: Settings) -> int:
    try:
        work(resolve(settings))
    except Exception as problem:  # of the database, of a command, of an id that is none
        print(f"{type(problem).__name__}: {problem}", file=sys.stderr)
        return FAILED
    return 0
