"""The supervisor's side of the fork server: roles in milliseconds, by exec when that can't be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import IO

from infra.children import Child, Surroundings
from infra.fork_server import PID
from infra.lives import LINE_BYTES_MAX, Life

FORK_SERVER = "fork-server"
IMPORTS_SECONDS_MAX = 30.0  # 2.5 s of a processor; then roles had better begin by themselves
UNKNOWN_STATUS = 255  # asyncio's too, if somebody else has waited for a child
FORK_SECONDS_MAX = 3.0  # it takes 10 ms; who is slower is stopped, and of no use


def can_fork(environment: Mapping[str, str]) -> bool:
    """Whether roles may be forked here, and be waited for.

    A library that is loaded before all others (libfaketime, say) knows of no forks.
    """
    if sys.platform != "linux" or environment.get("LD_PRELOAD"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))  # Linux 5.3
    except OSError:
        return False
    return True


class ForkServer(Child):
    """It is a child as roles are: logged, watched, started again. See `infra.fork_server`."""

    def __init__(self, module: str, around: Surroundings) -> None:
        super().__init__(
            FORK_SERVER,
            [sys.executable, "-m", "infra.fork_server", module],
            around,
            line_kind=socket.SOCK_SEQPACKET,
        )
        self._decided = asyncio.Event()
        """The first of its lives has imported everything, or has failed to, or takes too long."""
        self._ready: Life | None = None

    def _works(self, life: Life) -> None:
        self._ready = life
        self._decided.set()

    async def _start(self) -> Life:
        try:
            return await super()._start()
        except OSError:
            self._decided.set()
            raise

    async def _live(self, life: Life) -> int:
        try:
            return await super()._live(life)
        finally:
            self._decided.set()
            if self._ready is life:
                self._ready = None

    async def fork(self, role: str, passed: Mapping[str, int]) -> Life | None:
        """A life of a role; None: not now. Waits for the first imports, not for those of a restart:
        by itself a role is there sooner."""
        try:
            await asyncio.wait_for(self._decided.wait(), IMPORTS_SECONDS_MAX)
        except TimeoutError:
            self._decided.set()
        if self._ready is None:
            return None
        try:
            return await _forked(self._ready, role, passed)
        except TimeoutError:
            if self._ready is not None:
                self._ready.signal(signal.SIGKILL)
        except OSError:  # it has just died, or the machine is out of descriptors
            pass
        return None


async def _forked(server: Life, role: str, passed: Mapping[str, int]) -> Life | None:
    """None: it has died over it. What it has begun all the same ends by the end of its lifeline,
    before it has worked: it was never told to go."""
    with contextlib.ExitStack() as undo:
        ours, its = socket.socketpair()
        undo.callback(ours.close)
        ours.setblocking(False)
        read, write = os.pipe()
        output = undo.enter_context(os.fdopen(read, "rb", buffering=0))
        options = {"--lifeline": its.fileno(), **passed}
        try:
            request = " ".join([role, *options]).encode()
            socket.send_fds(server.line, [request], [write, *options.values()])
        finally:
            its.close()
            os.close(write)
        async with asyncio.timeout(FORK_SECONDS_MAX):
            pid = await _heard(ours)
        if pid is None:
            return None
        process = ForkedProcess(pid)
        await process.read_from(output)
        undo.pop_all()
        return Life(process, ours, let_go=process.close)


async def _heard(line: socket.socket) -> int | None:
    heard = b""
    while len(heard) < PID.size:
        more = await asyncio.get_running_loop().sock_recv(line, PID.size - len(heard))
        if not more:
            return None
        heard += more
    pid: int = PID.unpack(heard)[0]
    return pid


class ForkedProcess:
    """A child that somebody else has forked for us; what Life needs of asyncio's own kind."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: asyncio.StreamReader | None = None
        self._ended = asyncio.Event()
        self._reading: asyncio.ReadTransport | None = None
        self._loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(pid)
        self._loop.add_reader(self._pidfd, self._end)

    async def read_from(self, pipe: IO[bytes]) -> None:
        """Its output comes there; `close` closes it."""
        reader = asyncio.StreamReader(LINE_BYTES_MAX)
        self._reading, _ = await self._loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        self.stdout = reader

    def _end(self) -> None:
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return
            self.returncode = os.waitstatus_to_exitcode(status)
        except ChildProcessError:  # somebody else has waited for it
            self.returncode = UNKNOWN_STATUS
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._ended.set()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None  # noqa: S101
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Until we have waited for it, its pid is nobody else's."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def close(self) -> None:
        """No more of its output."""
        if self._reading is not None:
            self._reading.close()
