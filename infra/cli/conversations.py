"""`thalweg conversations`: list them, show one, search in them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.cli.native import Api, Refused
from infra.settings import Settings

FAILED = 1
NODES_MAX = 10_000
"""Messages and answers of one conversation that are shown; a terminal keeps no more lines."""


def list_all(
    settings: Settings, *, user: str | None, archived: str, count: int, as_json: bool
) -> int:
    """A line a conversation, the last active one first."""

    def work(api: Api) -> None:
        found = api.pages("/api/conversations", count, user=user, archived=archived)
        _print(found, as_json, lambda: _list_table(found))

    return _do(settings, work)


def show(settings: Settings, conversation: str, *, head: str | None, as_json: bool) -> int:
    """One conversation with a branch of its messages, the first one first."""

    def work(api: Api) -> None:
        path = f"/api/conversations/{quote(conversation, safe='')}"
        found = api.get(path)
        nodes = api.pages(f"{path}/messages", NODES_MAX, head=head)[::-1]
        _print(found | {"nodes": nodes}, as_json, lambda: _told(found, nodes))

    return _do(settings, work)


def search(settings: Settings, query: str, *, user: str | None, count: int, as_json: bool) -> int:
    """A line a message or answer, the best match first."""

    def work(api: Api) -> None:
        found = api.pages("/api/conversations/search", count, q=query, user=user)
        _print(found, as_json, lambda: _search_table(found))

    return _do(settings, work)


def _do(settings: Settings, work: Callable[[Api], None]) -> int:
    try:
        with Api(settings) as api:
            work(api)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return FAILED
    return 0


def _print(found: Any, as_json: bool, pretty: Callable[[], Any]) -> None:
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        Console().print(pretty())


def _list_table(found: list[dict[str, Any]]) -> Table:
    made = Table(box=None, pad_edge=False)
    made.add_column("conversation", no_wrap=True)
    made.add_column("last activity", no_wrap=True)
    made.add_column("title", overflow="ellipsis", ratio=1, no_wrap=True)
    made.add_column("messages", justify="right")
    made.add_column("unread", justify="right")
    made.add_column("")
    for one in found:
        made.add_row(
            one["conversation"],
            _time(one["last_activity"]),
            _name(one),
            str(one["messages"]),
            str(one["unread"]),
            Text(_state(one)),
        )
    return made


def _state(one: dict[str, Any]) -> str:
    states = {
        "parked": one["parked"],
        "answering": bool(one["answering"]),
        "archived": one["archived"],
    }
    return ", ".join(name for name, there in states.items() if there)


def _told(found: dict[str, Any], nodes: list[dict[str, Any]]) -> Text:
    told = Text()
    told.append(f"{_name(found).plain}\n", style="bold")
    state = _state(found)
    about = [found["conversation"], f"of {found['user']}", f"at {found['position']}"]
    told.append(", ".join([*about, *([state] if state else [])]) + "\n", style="dim")
    for node in nodes:
        siblings = node["siblings"]
        branch = f" {siblings['number']}/{siblings['count']}" if siblings["count"] > 1 else ""
        told.append(f"\n{node['role']}{branch}", style="bold cyan")
        told.append(f"  {_time(node['created_at'])}  {node['node']}", style="dim")
        status = node.get("status", "finish")
        if status != "finish":
            told.append(f"  {status}", style="red")
        told.append(f"\n{node['text'] or ''}\n")
    return told


def _search_table(found: list[dict[str, Any]]) -> Table:
    made = Table(box=None, pad_edge=False)
    for heading in ("conversation", "title", "role"):
        made.add_column(heading, no_wrap=heading != "title")
    made.add_column("found", ratio=1)
    for one in found:
        excerpt = Text(one["excerpt"])
        for start, end in one["marks"]:
            excerpt.stylize("bold yellow", start, end)
        made.add_row(one["conversation"], _name(one), one["role"], excerpt)
    return made


def _name(one: dict[str, Any]) -> Text:
    return Text(one["title"] or one["opening"] or "(empty)")


def _time(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M}"
