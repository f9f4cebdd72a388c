"""`thalweg keys`: API keys, made and revoked by commands like any other."""

from __future__ import annotations

import sys
from collections.abc import Callable
from uuid import UUID

from commands.errors import Refused
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


def list_all(settings: Settings, *, tenant: str) -> int:
    """One line a key of the tenant."""
    from infra import wiring

    def show(known: Settings) -> None:
        for key in finish(wiring.list_keys(known, tenant=tenant)):
            state = "revoked" if key.revoked else "valid"
            print(f"{key.id}  {key.created_at:%Y-%m-%d %H:%M}  {state:7}  {key.owner}  {key.name}")

    return _do(show, settings)


def revoke(settings: Settings, key: str, *, tenant: str) -> int:
    """Takes the key out of service; gateways forget it within seconds."""
    try:
        id_ = UUID(key)
    except ValueError:
        print(f"{key!r} is not the id of a key; `thalweg keys list` shows them.", file=sys.stderr)
        return FAILED
    from infra import wiring

    return _do(lambda known: finish(wiring.revoke_key(known, id_, tenant=tenant)), settings)


def _do(work: Callable[[Settings], object], settings: Settings) -> int:
    try:
        work(resolve(settings))
    except (LookupError, Refused) as problem:  # they say what to do
        text = str(problem.args[0] if isinstance(problem, LookupError) else problem)
        print(f"{text[:1].upper()}{text[1:]}.", file=sys.stderr)
        return FAILED
    except Exception as problem:
        print(f"{type(problem).__name__}: {problem}", file=sys.stderr)
        return FAILED
    return 0
