"""The verbs that read the log: `replay`, `explain`, `export` and `topics`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.cli.common import load_settings

Context = Annotated[str, typer.Option(help="conversations or accounts")]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]


def add_to(app: typer.Typer) -> None:
    """Adds the verbs to the program's."""
    for verb in (replay, explain, export, topics):
        app.command()(verb)


def replay(
    stream: Annotated[str, typer.Argument(help="the id of a stream, such as a conversation's")],
    at: Annotated[
        str | None, typer.Option(help="only what had happened by then: 2026-11-27T06:30:00Z")
    ] = None,
    state: Annotated[
        bool, typer.Option("--state", help="what the events come to, instead of the events")
    ] = False,
    context: Context = "conversations",
    as_json: AsJson = False,
) -> None:
    """Print the events of a stream, or the state that they come to, as of a time.

    With --json: a CloudEvent a line; with --state an object {stream, position, time, state}.
    """
    from infra.cli.replay import replay as work

    raise typer.Exit(
        work(load_settings(), stream, at=at, state=state, context=context, as_json=as_json)
    )


def explain(
    answer: Annotated[str, typer.Argument(help="the id of an answer, or of a completion")],
    as_json: AsJson = False,
) -> None:
    """Tell the story of an answer: where it waited, which engine was called, and why that one.

    With --json: an object a line, {time, at_ms, what, words, worker, fields}.
    """
    from infra.cli.explain import explain as work

    raise typer.Exit(work(load_settings(), answer, as_json=as_json))


def export(
    context: Context = "conversations",
    stream: Annotated[str | None, typer.Option(help="only this stream")] = None,
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="only this type; may be repeated")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="only this tenant: its id or name")] = None,
    since: Annotated[str | None, typer.Option(help="only from this time on")] = None,
    until: Annotated[str | None, typer.Option(help="only before this time")] = None,
    first: Annotated[int, typer.Option("--from", min=1, help="place in the log to begin at")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="a new file; else it goes to standard output")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with --out behind its last whole line")
    ] = False,
) -> None:
    """Write the log as CloudEvents, one in JSON a line, up to its end as it is now.

    Progress goes to standard error, and with it the place from which to go on.
    """
    from infra.cli.export import Asked
    from infra.cli.export import export as work

    asked = Asked(context, stream, tuple(type_ or ()), tenant, since, until, first)
    raise typer.Exit(work(load_settings(), asked, out=out, resume=resume))


def topics(as_json: AsJson = False) -> None:
    """List the topics: partitions, replicas, retention, records, size, and how far readers lag.

    With --json: an array of {topic, partitions, replicas, retention_seconds, records, bytes, lags}.
    """
    from infra.cli.topics import topics as work

    raise typer.Exit(work(load_settings(), as_json=as_json))
