"""`thalweg explain`: the story of an answer, as the log has it: what was asked, where it waited,
which engine was called and what was known then, and how it ended.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from events.conversations import (
    AnswerAskedAgain,
    AnswerCancelRequested,
    AnswerEnded,
    AnswerRequested,
)
from events.decisions import Decision, OfEngine, WasDispatched
from events.envelope import Recorded
from gateway.log.ports import Wanted
from infra.cli.decided import Unread, decided_about
from infra.cli.decision_words import words_of
from infra.cli.log_reading import FAILED, WrongArgument, events_of, exit_status, opened
from infra.event_store import open_conversation_store
from infra.servers import resolve
from infra.settings import Settings

BEFORE_SECONDS = 60
"""Decisions are looked for from so long before the request: the clocks of machines differ."""

ABOUT = AnswerRequested | AnswerAskedAgain | AnswerCancelRequested | AnswerEnded


@dataclass(frozen=True, slots=True)
class Line:
    """One moment of the story."""

    at_ms: int
    what: str
    """The event's or decision's kind."""
    words: str
    worker: str | None
    fields: dict[str, Any]


def explain(settings: Settings, answer: str, *, as_json: bool) -> int:
    """Returns the exit status: 1 if there is no such answer."""

    async def work() -> int:
        id_ = _answer_of(answer)
        resolved = resolve(settings)
        asked = await _events(resolved, id_)
        if not asked:
            print(
                f"There is no answer {id_}; `thalweg replay` shows a conversation.", file=sys.stderr
            )
            return FAILED
        lines = [_event_line(one) for one in asked]
        since_ms = min(line.at_ms for line in lines) - 1_000 * BEFORE_SECONDS
        try:
            async for line in _decisions(resolved, id_, since_ms):
                lines.append(line)  # noqa: PERF401  # what was read before an error counts
        except Unread as error:
            print(f"Some decisions may be missing: {error}.", file=sys.stderr)
        else:
            if not any(line.worker for line in lines):
                print("No worker's decisions are left: they are kept for a week.", file=sys.stderr)
        lines.sort(key=lambda line: line.at_ms)
        _print(lines, as_json=as_json)
        return 0

    return exit_status(work())


def _answer_of(text: str) -> UUID:
    try:
        return UUID(text.removeprefix("chatcmpl-"))
    except ValueError:
        raise WrongArgument(f"{text!r} is not the id of an answer, which is a UUID") from None


async def _events(settings: Settings, answer: UUID) -> Sequence[Recorded]:
    store = await open_conversation_store(settings.database_url("conversations"))
    try:
        row = await store.find_answer(answer)
    finally:
        await store.close()
    if row is None:
        return []
    async with opened(settings, "conversations") as log:
        return [
            one.recorded
            async for one in events_of(log, Wanted(stream=row.conversation))
            if isinstance(one.recorded.event, ABOUT) and one.recorded.event.answer == answer
        ]


async def _decisions(settings: Settings, answer: UUID, since_ms: int) -> AsyncIterator[Line]:
    """Those about the answer, then what became meanwhile of the engines that it was sent to. Raises
    Unread."""
    engines: dict[str, None] = {}
    until_ms = since_ms
    async for decided in decided_about(settings, str(answer), since_ms):
        for one in decided.decisions:
            until_ms = max(until_ms, one.at_ms)
            if isinstance(one, WasDispatched):
                engines[one.engine] = None
            yield _decision_line(decided.worker, one)
    for engine in engines:
        async for decided in decided_about(settings, engine, since_ms):
            for one in decided.decisions:
                if isinstance(one, OfEngine) and one.at_ms <= until_ms:
                    yield _decision_line(decided.worker, one)


def _decision_line(worker: str, one: Decision) -> Line:
    return Line(one.at_ms, one.KIND, words_of(one), worker, _plain(asdict(one)))


def _event_line(recorded: Recorded) -> Line:
    event = recorded.event
    match event:
        case AnswerRequested():
            words = (
                f"asked for: model {event.model}, band {event.band.value}, "
                f"{event.deadline_seconds:g} s to answer"
            )
        case AnswerAskedAgain():
            words = "asked for again: it was open past its deadline"
        case AnswerCancelRequested():
            words = "a cancel was asked for"
        case AnswerEnded():
            used = event.usage.completion_tokens
            words = f"ended: {event.kind.value} ({event.reason}), {used} tokens"
        case _:
            words = event.TYPE
    at_ms = int(recorded.meta.time.timestamp() * 1_000)
    fields = {"position": recorded.position, "command": recorded.meta.command}
    return Line(at_ms, event.TYPE.rpartition(".")[2], words, None, fields)


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, UUID) else value
        for name, value in fields.items()
        if name != "at_ms"
    }


def _print(lines: Sequence[Line], *, as_json: bool) -> None:
    if as_json:
        for line in lines:
            print(json.dumps({"time": _time(line.at_ms).isoformat(), **asdict(line)}))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for line in lines:
        table.add_row(
            f"{_time(line.at_ms):%H:%M:%S.%f}"[:-3],
            f"+{(line.at_ms - lines[0].at_ms) / 1_000:.3f} s",
            Text(line.words, overflow="fold"),
        )
    console = Console()
    console.print(f"Since {_time(lines[0].at_ms):%Y-%m-%d %H:%M:%S} UTC:")
    console.print(table)


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1_000, UTC)
