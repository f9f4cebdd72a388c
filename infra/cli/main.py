"""The verbs of `thalweg`. Each imports its work when it is called, so that `--help` is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.cli import dead_letters, log_verbs, projections
from infra.cli.common import load_settings, told

app = typer.Typer(
    help="Thalweg: an event-sourced backend for chat products.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys = typer.Typer(help="API keys: create, list, revoke.", no_args_is_help=True)
app.add_typer(keys, name="keys")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(projections.app, name="projections")
log_verbs.add_to(app)
conversations = typer.Typer(help="Conversations: list, show, search.", no_args_is_help=True)
app.add_typer(conversations, name="conversations")

LISTED_MAX = 1_000


@app.command()
def up() -> None:
    """Start everything on this machine; Ctrl-C stops it."""
    from infra.cli.up import up as work

    raise typer.Exit(work(load_settings()))


@app.command()
def run(
    role: Annotated[
        list[str],
        typer.Argument(help="gateway, relay, answers, recorder, projections, sagas, engine"),
    ],
) -> None:
    """Run the named roles in this process, against the servers of the settings.

    With servers of your own, run `thalweg prepare` once before: it makes schemas, topics and a key.
    """
    from infra.cli.run import run as work

    raise typer.Exit(work(role))


@app.command()
def prepare() -> None:
    """Make schemas, topics and the first API key, where they are missing; `up` does so itself."""
    from infra.cli.run import prepare_and_tell as work

    raise typer.Exit(work())


@app.command()
def chat(
    message: Annotated[str, typer.Argument(help="what to say to the model")],
    model: Annotated[str | None, typer.Option(help="a model of /v1/models; else the first")] = None,
    conversation: Annotated[
        str | None, typer.Option(help="the id of the one to go on in; else a new one")
    ] = None,
) -> None:
    """Say something in a conversation; the answer is streamed into the terminal.

    How to go on in the same conversation is said on standard error afterwards.
    """
    from infra.cli.chat import chat as work

    raise typer.Exit(work(load_settings(), message, model=model, conversation=conversation))


@app.command()
def ps(
    as_json: Annotated[bool, typer.Option("--json", help="an array for programs")] = False,
) -> None:
    """List the servers and roles that run here.

    With --json: an array of {role, pid, ports, state}. `ports` is an object of name and port,
    `pid` is null while a role is being started again.
    """
    from infra.cli.ps import ps as work

    raise typer.Exit(work(load_settings(), as_json=as_json))


@app.command()
def fleet(
    watch: Annotated[bool, typer.Option("--watch", help="until Ctrl-C")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="an object for programs")] = False,
) -> None:
    """Show engines, their breakers and load, what waits by band and tenant, and the workers.

    With --json: an object {workers, engines, queues, served}; with --watch one a line each second.
    """
    from infra.cli.fleet import work

    raise typer.Exit(told(lambda settings: work(settings, watch=watch, as_json=as_json)))


@app.command()
def doctor() -> None:
    """Say what is wrong with the set-up and what to do about it."""
    from infra.cli.doctor import doctor as work

    raise typer.Exit(work())


@app.command()
def rebuild(
    projection: Annotated[str, typer.Argument(help="histories, usage, answers or keys")],
    switch: Annotated[
        bool, typer.Option("--switch", help="make the new build live, if it is equal")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="with --switch: also if it is not equal")
    ] = False,
) -> None:
    """Build a read model from the log again, beside the live one, and compare the two.

    Readers go on with the live one. The exit status is 0 only if both have the same digest at the
    same positions. Without --switch the new build is dropped again.
    """
    from infra.cli.rebuild import work

    raise typer.Exit(told(lambda settings: work(settings, projection, switch=switch, force=force)))


@keys.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="what the key is for")] = "key",
    tenant: Annotated[str, typer.Option(help="whose it is")] = "default",
) -> None:
    """Make an API key and print it; it is not shown again."""
    from infra.cli.keys import create as work

    raise typer.Exit(work(load_settings(), name=name, tenant=tenant))


@keys.command("list")
def keys_list(
    tenant: Annotated[str, typer.Option(help="whose keys")] = "default",
) -> None:
    """List the keys of a tenant, without their secrets."""
    from infra.cli.keys import list_all as work

    raise typer.Exit(work(load_settings(), tenant=tenant))


@keys.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="the key's id, as `list` shows it")],
    tenant: Annotated[str, typer.Option(help="whose it is")] = "default",
) -> None:
    """Take a key's rights away, for good."""
    from infra.cli.keys import revoke as work

    raise typer.Exit(work(load_settings(), key, tenant=tenant))


@conversations.command("list")
def conversations_list(
    user: Annotated[str | None, typer.Option(help="whose; else the key's owner's")] = None,
    archived: Annotated[str, typer.Option(help="false, true or any")] = "false",
    limit: Annotated[int, typer.Option(min=1, max=LISTED_MAX, help="how many")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="an array for programs")] = False,
) -> None:
    """List conversations, the last active one first."""
    from infra.cli.conversations import list_all as work

    raise typer.Exit(
        work(load_settings(), user=user, archived=archived, count=limit, as_json=as_json)
    )


@conversations.command("show")
def conversations_show(
    conversation: Annotated[str, typer.Argument(help="its id, as `list` shows it")],
    head: Annotated[
        str | None, typer.Option(help="the last node of a branch; else the chosen one")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="an object for programs")] = False,
) -> None:
    """Show a conversation with the messages and answers of a branch, the first one first.

    With --json: the conversation as the API has it, and its `nodes`.
    """
    from infra.cli.conversations import show as work

    raise typer.Exit(work(load_settings(), conversation, head=head, as_json=as_json))


@conversations.command("search")
def conversations_search(
    query: Annotated[str, typer.Argument(help='words, "a phrase", or, -without')],
    user: Annotated[str | None, typer.Option(help="whose; else the key's owner's")] = None,
    limit: Annotated[int, typer.Option(min=1, max=LISTED_MAX, help="how many")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="an array for programs")] = False,
) -> None:
    """Search in messages and answers, the best match first."""
    from infra.cli.conversations import search as work

    raise typer.Exit(work(load_settings(), query, user=user, count=limit, as_json=as_json))


def main() -> None:
    """The entry point of the program `thalweg`."""
    app(prog_name="thalweg")


if __name__ == "__main__":
    main()
