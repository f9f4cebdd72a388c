"""`thalweg export`: the log as CloudEvents in JSON, one a line, for whoever analyses it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson

from events.codec import to_cloudevent_json
from gateway.log.ports import EventLog, Wanted
from infra.cli.log_reading import (
    EVENTS_PER_STEP,
    WrongArgument,
    context_named,
    exit_status,
    opened,
    stream_of,
    tenant_of,
    time_of,
    types_of,
)
from infra.settings import Settings

REPORT_SECONDS = 0.2
"""Between two looks at how far it is: more often nobody reads."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The options, as they were given."""

    context: str
    stream: str | None
    types: tuple[str, ...]
    tenant: str | None
    since: str | None
    until: str | None
    first: int

    def wanted(self) -> Wanted:
        """Raises WrongArgument."""
        return Wanted(
            tenant=tenant_of(self.tenant) if self.tenant is not None else None,
            stream=stream_of(self.stream) if self.stream is not None else None,
            types=types_of(self.types),
            since=time_of(self.since) if self.since is not None else None,
            until=time_of(self.until) if self.until is not None else None,
        )


def export(settings: Settings, asked: Asked, *, out: Path | None, resume: bool) -> int:
    """Returns the exit status. What was written is whole lines, whatever happens."""

    async def work() -> int:
        context, wanted = context_named(asked.context), asked.wanted()
        if resume and out is None:
            raise WrongArgument("--resume goes on with a file; name it with --out")
        async with opened(settings, context) as log:
            with _written(out, resume=resume) as (file, last):
                await _copy(log, wanted, max(asked.first - 1, last), file)
        return 0

    return exit_status(work())


async def _copy(log: EventLog, wanted: Wanted, place: int, file: BinaryIO) -> None:
    end = await log.end()  # what comes later is for another time: it would never be done
    if wanted.since is not None:
        place = max(place, await log.before(wanted.since))
    progress = Progress(place, end)
    count = 0
    try:
        while place < end:
            step = await log.read(wanted, place, events_max=EVENTS_PER_STEP)
            some = [one for one in step.found if one.place <= end]
            lines = [to_cloudevent_json(one.recorded, logposition=str(one.place)) for one in some]
            file.write(b"".join(line + b"\n" for line in lines))
            count, place = count + len(some), min(step.place, end)
            progress.show(count, place)
            if step.at_end or step.past:
                place = end
    finally:
        file.flush()
        progress.finish(count, place)


class Progress:
    """On standard error: how far it is on a terminal, and in the end where to go on."""

    def __init__(self, first: int, end: int) -> None:
        self._first, self._end = first, end
        self._began = self._shown_at = time.monotonic()
        self._draws = sys.stderr.isatty()

    def show(self, count: int, place: int) -> None:
        now = time.monotonic()
        if self._draws and now - self._shown_at >= REPORT_SECONDS:
            self._shown_at = now
            share = (place - self._first) / max(1, self._end - self._first)
            sys.stderr.write(f"\r{share:4.0%}  {count:,} events, at place {place:,}\033[K")
            sys.stderr.flush()

    def finish(self, count: int, place: int) -> None:
        seconds = time.monotonic() - self._began
        begin = "\r\033[K" if self._draws else ""
        speed = f"{count / seconds:,.0f} events/s" if seconds > 0 else "at once"
        sys.stderr.write(f"{begin}{count:,} events ({speed}); go on with --from {place + 1}\n")


@contextmanager
def _written(out: Path | None, *, resume: bool) -> Iterator[tuple[BinaryIO, int]]:
    """Where the lines go, and the place of the last one that is there. Raises WrongArgument."""
    if out is None:
        yield sys.stdout.buffer, 0
        return
    try:
        file = out.open("r+b" if resume and out.exists() else "x+b")
    except FileExistsError:
        raise WrongArgument(
            f"{out} is there already; go on with it by --resume, or name another file"
        ) from None
    except OSError as error:
        raise WrongArgument(f"{out} can't be written: {error.strerror}") from None
    with file:
        last = _last_place(file, out) if resume else 0
        yield file, last
        file.flush()
        os.fsync(file.fileno())


def _last_place(file: BinaryIO, out: Path) -> int:
    """Cuts off a line that a crash has left incomplete; stands at the end of the last whole one."""
    whole, last = 0, b""
    for line in file:
        if line.endswith(b"\n"):
            whole, last = whole + len(line), line
    file.truncate(whole)
    file.seek(whole)
    if not last:
        return 0
    try:
        return int(orjson.loads(last)["logposition"])
    except (ValueError, KeyError, TypeError):
        raise WrongArgument(f"{out} does not end with a line of an export") from None
