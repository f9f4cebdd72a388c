"""What several verbs of the command line share."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from infra.settings import Settings

FAILED = 1
REFUSED = 2


def load_settings() -> Settings:
    """The settings, or one sentence a problem on standard error and exit status 2."""
    from infra.settings import Settings, SettingsRefused

    try:
        return Settings.load()
    except SettingsRefused as refused:
        for problem in refused.problems:
            typer.echo(problem, err=True)
        raise typer.Exit(REFUSED) from None


def user_name() -> str:
    """Who works here, as the operating system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def told(work: Callable[[Settings], int]) -> int:
    """Runs the work on the running servers; what goes wrong is one sentence, and exit status 1."""
    from infra.servers import resolve

    try:
        return work(resolve(load_settings()))
    except LookupError as problem:
        text = str(problem.args[0] if problem.args else problem)
    except typer.Exit:
        raise
    except Exception as problem:
        text = f"{type(problem).__name__}: {problem}".strip()
    print(f"{text[:1].upper()}{text[1:]}".rstrip(".") + ".", file=sys.stderr)
    return FAILED
