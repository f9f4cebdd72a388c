"""`thalweg projections`: the builds of the read models; to go back to one, and to drop one."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.cli.common import told

app = typer.Typer(
    help="""The builds of the read models: list, switch, drop.

    A build is named like histories@1, or histories@1.2 for the second one of that version.
    `thalweg rebuild` makes them. The one that was live before a switch is fed on until it is
    dropped, so that going back is a switch too.
    """,
    no_args_is_help=True,
)

BuildName = Annotated[str, typer.Argument(metavar="BUILD", help="as `list` names it")]


@app.command("list")
def list_() -> None:
    """List all builds: building, live or old, and since when."""
    from infra.cli.projections_work import list_all as work

    raise typer.Exit(told(work))


@app.command()
def switch(build: BuildName) -> None:
    """Make an old build live again. It is refused while that build is behind the live one."""
    from infra.cli.projections_work import switch as work

    raise typer.Exit(told(lambda settings: work(settings, build)))


@app.command()
def drop(build: BuildName) -> None:
    """Drop an old build, with all its tables. Going back to it needs a rebuild then."""
    from infra.cli.projections_work import drop as work

    raise typer.Exit(told(lambda settings: work(settings, build)))
