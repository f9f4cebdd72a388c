"""One server as a child process: start under a warden, wait until it answers, stop, kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.servers import warden
from infra.servers.ports import Memory

POLL_SECONDS = 0.02  # servers are ready in 0.1 to 3 s: a finer look gains nothing
LOG_TAIL_BYTES = 2_000  # enough of a log to see why a server did not start


class ServerDidNotStart(Exception):
    """A server ended, or was not ready in time."""

    def __init__(self, name: str, why: str, log: Path) -> None:
        tail = log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace") if log.exists() else ""
        super().__init__(f"{name} did not start: {why}. Its log is {log}; the end of it:\n{tail}")
        self.name = name


class ServerProcess:
    """What the embedded servers share. A subclass says how one is prepared, run and asked."""

    name = "server"
    stop_signal = signal.SIGTERM
    orphan_signal = signal.SIGKILL

    def __init__(
        self,
        home: Path,
        *,
        start_seconds_max: float = 120,
        stop_seconds_max: float = 15,
        log_bytes_max: int = 10_485_760,
    ) -> None:
        self.home = home
        self.folder = home / self.name
        self.log = home / "logs" / f"{self.name}.log"
        self.start_seconds_max = start_seconds_max
        self.stop_seconds_max = stop_seconds_max
        self.log_bytes_max = log_bytes_max
        self.pid: int | None = None
        self._warden: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None
        self._pid_file = home / "run" / f"{self.name}.pid"
        self._lock = threading.Lock()
        self.unwanted = threading.Event()  # somebody wants to stop what is starting

    # what a subclass says -----------------------------------------------------------------

    def choose(self, memory: Memory, *, rechoose: bool) -> None:
        """Takes ports and passwords from the memory. `rechoose`: the server is about to start."""
        raise NotImplementedError

    def ports(self) -> dict[str, int]:
        """Where it listens, by purpose."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Makes what the first start needs (idempotent)."""

    def command(self) -> list[str]:
        """The program, by its whole path, and its arguments."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Asks the server, once."""
        raise NotImplementedError

    def after_start(self) -> None:
        """What has to be done once it answers (idempotent)."""

    def user(self) -> tuple[int, int] | None:
        """The user and group to run as, if not the one of this process."""
        return None

    # life ---------------------------------------------------------------------------------

    def settle(self, memory: Memory) -> None:
        """Before the first start: ends what a killed run left, then makes sure of free ports."""
        with self._lock:
            if self.running:
                return
            self._end_leftover()
            self.choose(memory, rechoose=True)

    def start(self) -> None:
        """Returns when the server answers; `ServerDidNotStart` says why it does not."""
        with self._lock:
            if self.running:
                return
            self._forget()
            for folder in (self.folder, self.log.parent, self._pid_file.parent):
                folder.mkdir(parents=True, exist_ok=True)
            self.prepare()
            try:
                self._spawn()
                self._wait_ready()
                self.after_start()
            except BaseException:
                self._end()
                raise

    def stop(self) -> None:
        """Ends the server in good order, by force after `stop_seconds_max`; a start gives up."""
        self.unwanted.set()
        with self._lock:
            self.unwanted.clear()
            self._end()

    def kill(self) -> None:
        """As if it had crashed: SIGKILL to the server, for tests of faults."""
        with self._lock:
            if self.pid is not None and self.running:
                os.kill(self.pid, signal.SIGKILL)
            if self._warden is not None:
                self._warden.wait(self.stop_seconds_max)

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._warden is not None and self._warden.poll() is None

    def _spawn(self) -> None:
        user = self.user()
        read, write = os.pipe()
        arguments: list[str] = [
            str(read),
            str(int(self.stop_signal)),
            str(int(self.orphan_signal)),
            str(self.stop_seconds_max),
            str(self.log),
            str(self.log_bytes_max),
            "" if user is None else f"{user[0]}:{user[1]}",
            *self.command(),
        ]
        try:
            self._warden = subprocess.Popen(
                [sys.executable, "-I", "-S", warden.__file__, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                pass_fds=(read,),
                start_new_session=True,
                cwd=self.folder,
                env=self.child_environment(),
            )
        except BaseException:
            os.close(write)
            raise
        finally:
            os.close(read)
        self._lifeline = write
        line = self._warden.stdout.readline() if self._warden.stdout else b""
        if self._warden.stdout:
            self._warden.stdout.close()
        if not line.strip():
            raise ServerDidNotStart(self.name, "its warden ended at once", self.log)
        self.pid = int(line)
        self._pid_file.write_text(f"{self.pid} {identity(self.pid)}")

    def child_environment(self) -> dict[str, str]:
        """Servers are set by their own files and arguments, not by what surrounds us."""
        kept = ("PATH", "HOME", "TMPDIR", "TZ")
        return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}

    def _wait_ready(self) -> None:
        wait_until(
            self.is_ready,
            self.start_seconds_max,
            alive=lambda: self.running and not self.unwanted.is_set(),
            failed=lambda why: ServerDidNotStart(self.name, why, self.log),
        )

    def _end(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        if self._warden is not None:
            try:
                # the warden's own bound comes first, twice: stop, then kill
                self._warden.wait(self.stop_seconds_max * 2 + 1)
            except subprocess.TimeoutExpired:
                self._warden.kill()
                self._warden.wait()
        self._forget()

    def _forget(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
        self._lifeline = self._warden = self.pid = None
        self._pid_file.unlink(missing_ok=True)

    def _end_leftover(self) -> None:
        """A server of a run that was killed: it may still hold its files and its port."""
        try:
            pid, _, known = self._pid_file.read_text().partition(" ")
        except FileNotFoundError:
            return
        if known and identity(int(pid)) == known:
            try:  # its warden may be stopping it in good order just now
                wait_until(lambda: identity(int(pid)) != known, self.stop_seconds_max)
            except TimeoutError:
                os.kill(int(pid), signal.SIGKILL)
                wait_until(lambda: identity(int(pid)) != known, self.stop_seconds_max)
        self._pid_file.unlink(missing_ok=True)


def identity(pid: int) -> str:
    """What tells a process from a later one with its pid: its start time. Empty: there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
        command: Sequence[str] = ("ps", "-o", "lstart=", "-p", str(pid))
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def wait_until(
    condition: Callable[[], bool],
    seconds_max: float,
    *,
    alive: Callable[[], bool] = lambda: True,
    failed: Callable[[str], Exception] = TimeoutError,
) -> None:
    """Polls until the condition holds; raises `failed(why)` when time is up or `alive` says no."""
    until = time.monotonic() + seconds_max
    while not condition():
        if not alive():
            raise failed("its process ended")
        if time.monotonic() > until:
            raise failed(f"not within {seconds_max:g} s")
        time.sleep(POLL_SECONDS)
