"""One life of a role: its process, its output, and the line on which it and we exchange words."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from infra.servers.lifeline import LEAVES, WORKS

LINE_BYTES_MAX = 1_048_576  # of a log; a longer one is cut there


class Running(Protocol):
    """A child process; `asyncio.subprocess.Process` is one."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    @property
    def stdout(self) -> asyncio.StreamReader | None: ...

    async def wait(self) -> int: ...

    def send_signal(self, number: int, /) -> None: ...


@dataclass(eq=False)
class Life:
    process: Running
    line: socket.socket
    leaves: asyncio.Event = field(default_factory=asyncio.Event)
    """Somebody has told it to stop, and it waits for the next one to work."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """It has ended, and what it wrote is in the log."""
    let_go: Callable[[], None] = lambda: None
    """Called when it is closed."""

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        environment: Mapping[str, str],
        passed: Mapping[str, int],
        *,
        line_kind: socket.SocketKind = socket.SOCK_STREAM,
    ) -> Life:
        """`passed` are options and the descriptors that it inherits with them. Call it in the main
        thread: see lifeline.watch.
        """
        ours, its = socket.socketpair(type=line_kind)
        try:
            ours.setblocking(False)
            descriptors = {"--lifeline": its.fileno(), **passed}
            # A session of its own: Ctrl-C is for us.
            process = await asyncio.create_subprocess_exec(
                *command,
                *(word for name, fd in descriptors.items() for word in (name, str(fd))),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=tuple(descriptors.values()),
                start_new_session=True,
                env=environment,
                limit=LINE_BYTES_MAX,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            its.close()
        return cls(process, ours)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> asyncio.StreamReader:
        if self.process.stdout is None:
            raise LookupError("its output is not piped")
        return self.process.stdout

    async def listen(self, works: Callable[[], None]) -> None:
        """Hears what it says, until it ends."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while word := await loop.sock_recv(self.line, 1):
                if word == WORKS:
                    works()
                elif word == LEAVES:
                    self.leaves.set()

    def say(self, word: bytes) -> None:
        with contextlib.suppress(OSError):
            self.line.send(word)

    def signal(self, number: signal.Signals) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def close(self) -> None:
        """Lets go of it; what still runs is killed (the task that kept it was cancelled)."""
        self.line.close()
        self.signal(signal.SIGKILL)
        self.let_go()
        self.over.set()


async def first(happened: asyncio.Event, ended: asyncio.Task[int]) -> bool:
    """Waits for either; whether it was the end."""
    waiting = asyncio.create_task(happened.wait())
    try:
        await asyncio.wait((waiting, ended), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    return ended.done()


@dataclass(frozen=True, eq=False)
class Begun:
    """A life that is kept, and its end: the exit status."""

    life: Life
    ended: asyncio.Task[int]
