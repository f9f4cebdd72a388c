"""`thalweg replay`: a stream's events as the store has them, or the state that they come to."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from commands.accounts import ACCOUNTS
from commands.conversations import CONVERSATIONS
from commands.submit import Decider
from events.codec import to_cloudevent_json
from gateway.log.ports import Logged, Wanted
from infra.cli.log_reading import (
    FAILED,
    context_named,
    events_of,
    exit_status,
    opened,
    stream_of,
    time_of,
)
from infra.settings import Settings

DECIDERS: dict[str, Decider[Any]] = {"conversations": CONVERSATIONS, "accounts": ACCOUNTS}


def replay(
    settings: Settings, stream: str, *, at: str | None, state: bool, context: str, as_json: bool
) -> int:
    """Returns the exit status: 1 if there is no such stream, or none yet at that time."""

    async def work() -> int:
        id_, name = stream_of(stream), context_named(context)
        until = time_of(at) if at is not None else None
        async with opened(settings, name) as log:
            found = [one async for one in events_of(log, Wanted(stream=id_))]
        if not found:
            print(f"There is no stream {id_} among the {name}.", file=sys.stderr)
            return FAILED
        happened = as_of(found, until)
        if not happened:
            began = found[0].recorded.meta.time.isoformat()
            print(f"The stream {id_} begins later, at {began}.", file=sys.stderr)
            return FAILED
        if state:
            _print_state(DECIDERS[name], happened, as_json=as_json)
        else:
            _print_events(happened, as_json=as_json)
        return 0

    return exit_status(work())


def as_of(found: Sequence[Logged], time: datetime | None) -> Sequence[Logged]:
    """What had happened by then: all before the first event that came later. Positions decide and
    times only choose where to stop, as the clocks of two writers may differ."""
    for at, one in enumerate(found):
        if time is not None and one.recorded.meta.time > time:
            return found[:at]
    return found


def _print_events(events: Sequence[Logged], *, as_json: bool) -> None:
    if as_json:
        for one in events:
            line = to_cloudevent_json(one.recorded, logposition=str(one.place))
            sys.stdout.write(line.decode() + "\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("position", "time", "event", "", box=None)
    for one in events:
        event, meta = one.recorded.event, one.recorded.meta
        data = {name: value for name, value in plain(event).items() if name != "conversation"}
        words = ", ".join(f"{name}={json.dumps(value)}" for name, value in data.items())
        sealed = "(sealed) " if one.recorded.sealed is not None else ""
        table.add_row(
            str(one.recorded.position),
            f"{meta.time:%Y-%m-%d %H:%M:%S.%f}"[:-3],
            event.TYPE.rpartition(".")[2],
            Text(sealed + words, overflow="fold"),
        )
    Console().print(table)


def _print_state(decider: Decider[Any], events: Sequence[Logged], *, as_json: bool) -> None:
    last = events[-1].recorded
    state = decider.replay([one.recorded for one in events])
    shown = {
        "stream": str(last.stream),
        "position": last.position,
        "time": last.meta.time.isoformat(),
        "state": plain(state),
    }
    if as_json:
        print(json.dumps(shown))
        return
    from rich.console import Console

    Console().print_json(json.dumps(shown))


def plain(value: Any) -> Any:
    """Any state or event as JSON has it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, tuple | list | set | frozenset):
        return [plain(item) for item in value]
    return value
