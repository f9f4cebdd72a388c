"""`thalweg dead-letters`: its verbs and what `--help` says of them."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.cli.common import told, user_name

app = typer.Typer(
    help="""What a read model could not apply: list, show, retry, discard.

    An event that cannot be applied parks its stream: the later events of the stream wait behind
    it, in order, and every other stream goes on. Mend the cause (most often: update the program),
    then retry. Only what can never be applied is for discarding.
    """,
    no_args_is_help=True,
)

Projection = Annotated[str, typer.Argument(help="histories, usage, answers or keys")]
Stream = Annotated[str, typer.Argument(help="the stream's id, as `list` shows it")]
By = Annotated[str, typer.Option(help="who decides; it is kept with the decision")]


@app.command("list")
def list_(
    projection: Annotated[str | None, typer.Argument(help="only of this read model")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="an array for programs")] = False,
) -> None:
    """List the streams that are parked, and the records that are no events.

    The columns: read model, stream, the last position that was applied, how many events wait, since
    when, and why. A record that is no event of ours belongs to no stream; instead of one it shows
    its place: topic:partition:offset.
    """
    from infra.cli.dead_letters_work import list_all as work

    raise typer.Exit(told(lambda settings: work(settings, projection, as_json=as_json)))


@app.command()
def show(projection: Projection, stream: Stream) -> None:
    """Show the waiting events of a stream, and what was decided about it before.

    Headers and bodies are printed as they came: they may hold what people have written.
    """
    from infra.cli.dead_letters_work import show as work

    raise typer.Exit(told(lambda settings: work(settings, projection, stream)))


@app.command()
def retry(
    projection: Projection,
    stream: Annotated[str | None, typer.Argument(help="the stream; else all that wait")] = None,
    by: By = user_name(),
) -> None:
    """Apply the waiting events, in their order, each exactly once.

    A stream is free again when all of them are applied. The exit status is 0 only then.
    """
    from infra.cli.dead_letters_work import retry as work

    raise typer.Exit(told(lambda settings: work(settings, projection, stream, by=by)))


@app.command()
def discard(
    projection: Projection,
    stream: Annotated[
        str, typer.Argument(help="the stream's id; for a record that is no event of it, its place")
    ],
    position: Annotated[
        int | None, typer.Argument(help="the one that the stream waits for: the first it shows")
    ] = None,
    by: By = user_name(),
) -> None:
    """Go on without one event, for good, and apply what waits behind it.

    The read model will never say what that event said, not after a rebuild either. The event itself
    stays in the log, and with the decision. A position that never came can be discarded too.

    A place (topic:partition:offset, as `list` and `show` print it) takes out that one record only:
    one that is no event of ours, or lies about its stream. No position is given up for it.
    """
    from infra.cli.dead_letters_work import discard as work

    raise typer.Exit(told(lambda settings: work(settings, projection, stream, position, by=by)))
