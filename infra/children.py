"""One role as a child process: its life, its log file, its restarts."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from infra.home import Part
from infra.lives import Begun, Life, first
from infra.servers.lifeline import GO, RELEASE
from infra.servers.warden import Log

RESTART_DELAY_SECONDS = (
    0.25  # the second restart in a row waits this long, each next one twice that
)
NOT_STARTED = 127  # the shell's status for a command that cannot be run
LAST_WORDS_SECONDS_MAX = 2.0  # what an ended process has written is there at once
SETTLED_SECONDS = 10.0  # a process that lived this long did not die of its start


Fork = Callable[[Mapping[str, int]], Awaitable[Life | None]]
"""Starts a life that inherits these descriptors with the options; None: it can't now."""


class Backoff:
    """How long to wait before the next start: first nothing, then more and more, to a bound."""

    def __init__(self, seconds_max: float) -> None:
        self._seconds_max = seconds_max
        self._in_a_row = 0

    def after(self, lived_seconds: float) -> float:
        """The delay after a life of that length."""
        self._in_a_row = 1 if lived_seconds >= SETTLED_SECONDS else self._in_a_row + 1
        if self._in_a_row == 1:
            return 0.0
        # the exponent is bounded too: floats end somewhere
        doublings = min(self._in_a_row - 2, 20)
        return min(RESTART_DELAY_SECONDS * float(2**doublings), self._seconds_max)


@dataclass(frozen=True)
class Surroundings:
    """What the children of one supervisor share. `say(text)` is told what a person should know;
    `changed()` that a child's `part` is another."""

    environment: Mapping[str, str]
    logs: Path
    """Each has its file in this folder."""
    log_bytes_max: int
    restart_delay_seconds_max: float
    say: Callable[[str], None]
    changed: Callable[[], None]


class Child:
    """A role that runs until it is told to stop, and is started again when it dies.

    One that has been told to stop by somebody else works on until its next life does: so a rolling
    restart interrupts nobody. `listeners`: sockets that every life shares, by the options that name
    them, so that connections wait there while none runs. `fork` starts a life where it can; else
    `command` does.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        around: Surroundings,
        *,
        role: str | None = None,
        ports: dict[str, int] | None = None,
        listeners: Mapping[str, socket.socket] | None = None,
        fork: Fork | None = None,
        line_kind: socket.SocketKind = socket.SOCK_STREAM,
    ) -> None:
        self.name = name
        self.part = Part(role or name, ports=ports or {})
        self._command = command
        self._environment = around.environment
        around.logs.mkdir(parents=True, exist_ok=True)
        self._log = Log(str(around.logs / f"{name}.jsonl"), around.log_bytes_max)
        self._backoff = Backoff(around.restart_delay_seconds_max)
        self._say, self._changed = around.say, around.changed
        self._listeners = listeners or {}
        self._fork, self._line_kind = fork, line_kind
        self._lives: list[Life] = []
        """Those that have not ended; the last one is the one that counts."""
        self._go = False
        self._stopping = False
        self.last_words = ""

    async def keep(self) -> None:
        """Runs the role, again and again, until `stop`."""
        async with asyncio.TaskGroup() as lives:
            await self._keep(lives)
        self._set("stopped")

    async def _keep(self, lives: asyncio.TaskGroup) -> None:
        while not self._stopping:
            began = time.monotonic()
            try:
                begun = await self._begin(lives)
                if not await first(begun.life.leaves, begun.ended):
                    self._say(f"{self.name} was told to stop; the next one takes over")
                    continue
                status = begun.ended.result()
            except OSError as problem:  # the machine is out of processes, memory or descriptors
                self.last_words, status = str(problem), NOT_STARTED
            if self._stopping:
                break
            lived = time.monotonic() - began
            delay = self._backoff.after(lived)
            self._set("restarting")
            again = f"again in {delay:g} s" if delay else "again now"
            words = f": {self.last_words}" if self.last_words and status != -signal.SIGKILL else ""
            self._say(f"{self.name} ended ({_status(status)}){words}; it is started {again}")
            await asyncio.sleep(delay)

    async def run_once(self) -> int:
        """One life; returns its exit status."""
        return await self._live(await self._start())

    async def _begin(self, lives: asyncio.TaskGroup) -> Begun:
        life = await self._start()
        return Begun(life, lives.create_task(self._live(life)))

    async def _start(self) -> Life:
        life = await self._process()
        self._adopt(life)
        return life

    async def _process(self) -> Life:
        passed = {option: listener.fileno() for option, listener in self._listeners.items()}
        if any(descriptor < 0 for descriptor in passed.values()):
            raise OSError("its door is closed: everything stops")
        if self._fork is not None and (forked := await self._fork(passed)) is not None:
            return forked
        return await Life.start(self._command, self._environment, passed, line_kind=self._line_kind)

    def _adopt(self, life: Life) -> None:
        """From here on it is the one that counts."""
        if self._go:
            life.say(GO)
        self._lives.append(life)
        self.part.pid = life.pid
        self._set("running" if self._go else "starting")

    async def _live(self, life: Life) -> int:
        """Until the end of that life; returns its exit status."""
        try:
            listening = asyncio.create_task(life.listen(lambda: self._works(life)))
            reading = asyncio.create_task(self._keep_log(life.output))
            ended = asyncio.create_task(life.process.wait())
            try:
                await asyncio.wait((reading, ended), return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    reading.result()
                status = await ended
                # somebody else may hold its output: a child of its own, a fork server that stands
                await asyncio.wait((reading,), timeout=LAST_WORDS_SECONDS_MAX)
                return status
            finally:
                for task in (listening, reading, ended):
                    task.cancel()
                await asyncio.gather(listening, reading, ended, return_exceptions=True)
        finally:
            life.close()
            self._lives.remove(life)
            if self.part.pid == life.pid:
                self.part.pid = None

    def _works(self, life: Life) -> None:
        """The life works: those before it may go."""
        for before in self._lives[: self._lives.index(life)]:
            before.say(RELEASE)

    def go(self) -> None:
        """Says that work may begin, to this life and to each later one."""
        self._go = True
        for life in self._lives:
            life.say(GO)
        if self._lives:
            self._set("running")

    async def stop(self, seconds_max: float) -> None:
        """SIGTERM, and SIGKILL after the bound. The role does not come back."""
        self._stopping = True
        await asyncio.gather(*(self._stop(life, seconds_max) for life in tuple(self._lives)))
        self._set("stopped")

    async def _stop(self, life: Life, seconds_max: float) -> None:
        life.say(RELEASE)
        life.signal(signal.SIGTERM)
        life.signal(signal.SIGCONT)
        try:
            await asyncio.wait_for(life.process.wait(), seconds_max)
        except TimeoutError:
            self._say(f"{self.name} did not stop within {seconds_max:g} s and is killed")
            self.kill()
        await life.over.wait()

    def kill(self) -> None:
        """SIGKILL, now."""
        self._stopping = True
        for life in self._lives:
            life.signal(signal.SIGKILL)

    def close(self) -> None:
        """Lets go of the log file."""
        self._log.close()

    def _set(self, state: str) -> None:
        self.part.state = state
        self._changed()

    async def _keep_log(self, output: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await output.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                line = end.partial
                if not line:
                    return
            except asyncio.LimitOverrunError as long:
                line = await output.read(long.consumed)
            text = line.rstrip(b"\n")
            if not text.strip():
                continue
            if not (text.startswith(b"{") and text.endswith(b"}")):
                self.last_words = text.decode(errors="replace").strip()
                text = self._wrapped(self.last_words)
            elif b'"level":"error"' in text:
                self.last_words = _words(text)
            self._log.write(text + b"\n")

    def _wrapped(self, text: str) -> bytes:
        """A line that is no JSON (a traceback, a library's own words) as JSON."""
        fields = {
            "time": datetime.now(UTC).isoformat(),
            "level": "error",
            "logger": "output",
            "role": self.part.role,
            "message": text,
        }
        return json.dumps(fields).encode()


def _words(line: bytes) -> str:
    """What an error in the log says."""
    try:
        return str(json.loads(line)["message"])
    except (ValueError, KeyError):
        return line.decode(errors="replace")


def _status(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def role_command(role: str, module: str) -> list[str]:
    """How a role is started: its own interpreter, without the command line's imports."""
    return [sys.executable, "-m", module, role]
