"""A tiny process that keeps one server: nothing outlives the supervisor, however it ends.

Run as `python -I -S warden.py PIPE STOP_SIGNAL ORPHAN_SIGNAL STOP_SECONDS_MAX LOG LOG_BYTES_MAX
USER COMMAND...`. PIPE is the read end of a pipe whose only writer is the supervisor: when it reads
the end of it, the supervisor is gone and the server is stopped (then killed). If the warden itself
is killed, Linux sends ORPHAN_SIGNAL to the server. The first line of standard output is the
server's pid. What the server writes goes to LOG, which is turned over once when it is full.
Standard library only, so it starts at once.
"""

import ctypes
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 4
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
READ_BYTES_MAX = 65_536  # what a pipe holds
LEFT_OUT = b'\n{"level": "warning", "message": "%d bytes were left out: the disk was full"}\n'
EXEC_FAILED = 127  # the shell's status for a command that cannot be run


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def become(uid: int, gid: int) -> None:
    """Leaves root for good, but keeps the right to pass through folders that only root may enter.

    PostgreSQL refuses to run as root, while the data or the virtual environment may lie below a
    folder of mode 700. One capability says exactly that (CAP_DAC_READ_SEARCH; where a container
    has taken it away, CAP_DAC_OVERRIDE); as an ambient one it survives exec. initdb asks with
    access(2) whether it may run postgres, and the kernel answers that without the capabilities of
    a user who is not root, unless the secure bit says to leave them alone.
    """
    linux = sys.platform == "linux"
    libc = _libc() if linux else None
    if libc is not None:
        libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if libc is None:
        return
    header = _Header(CAPABILITY_VERSION_3, 0)
    sets = (_Sets * 2)()
    libc.capget(ctypes.byref(header), sets)
    held = sets[0].permitted
    wanted = next(
        (cap for cap in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE) if held & (1 << cap)), None
    )
    low = 0 if wanted is None else 1 << wanted
    sets[0] = _Sets(low, low, low)
    sets[1] = _Sets(0, 0, 0)
    libc.capset(ctypes.byref(header), sets)
    if wanted is not None:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, wanted, 0, 0)


def die_with_parent(signal_number: int, parent: int) -> None:
    """The kernel sends the signal when the parent is gone (Linux). `become` would clear it."""
    if sys.platform != "linux":
        return
    _libc().prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(EXEC_FAILED)


class Log:
    """A file that never grows beyond its bound: the full one is kept as `.1`.

    Whoever writes must live on when the disk is full: what can't be written then is left out, and
    a line says so once there is room again.
    """

    def __init__(self, path: str, bytes_max: int) -> None:
        self.path, self.bytes_max = path, bytes_max
        self.file = open(path, "ab", buffering=0)  # noqa: SIM115
        self.size = self.file.tell()
        self.lost = 0

    def write(self, data: bytes) -> None:
        try:
            if self.file.closed or self.size + len(data) > self.bytes_max:
                self._turn_over()
            if self.lost:
                self._put(LEFT_OUT % self.lost)
                self.lost = 0
            self._put(data)
        except OSError:
            self.lost += len(data)

    def _put(self, data: bytes) -> None:
        written = self.file.write(data) or 0
        self.size += written
        self.lost += len(data) - written  # the disk has become full in the middle

    def _turn_over(self) -> None:
        self.file.close()
        if self.size:
            os.replace(self.path, self.path + ".1")
            self.size = 0
        self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115

    def close(self) -> None:
        self.file.close()


def _spawn(command: list[str], user: str, orphan_signal: int, output: int) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        if user:
            uid, _, gid = user.partition(":")
            become(int(uid), int(gid))
        die_with_parent(orphan_signal, parent)
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    except BaseException as problem:
        os.write(2, f"{command[0]} could not be started: {problem!r}\n".encode())
    os._exit(EXEC_FAILED)


def main(arguments: list[str]) -> int:
    """Starts the server, waits for its end or for the supervisor's, returns the server's status."""
    pipe, stop_signal, orphan_signal = int(arguments[0]), int(arguments[1]), int(arguments[2])
    stop_seconds_max, log = float(arguments[3]), Log(arguments[4], int(arguments[5]))
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    output_read, output_write = os.pipe()
    pid = _spawn(arguments[7:], arguments[6], orphan_signal, output_write)
    os.close(output_write)
    os.write(1, f"{pid}\n".encode())
    os.close(1)

    poll = select.poll()
    for fd in (pipe, wake_read, output_read):
        poll.register(fd, select.POLLIN)
    kill_at: float | None = None
    status: int | None = None
    while status is None:
        wait = None if kill_at is None else max(0.0, kill_at - time.monotonic()) * 1000
        stop = False
        for fd, _ in poll.poll(wait):
            data = os.read(fd, READ_BYTES_MAX)
            if fd == pipe and not data:
                poll.unregister(pipe)
                stop = True
            elif fd == output_read:
                log.write(data)
                if not data:
                    poll.unregister(output_read)
            elif fd == wake_read:
                stop = stop or bool({signal.SIGTERM, signal.SIGINT} & set(data))
        done, code = os.waitpid(pid, os.WNOHANG)
        if done:
            status = code
        elif stop and kill_at is None:
            os.kill(pid, stop_signal)
            os.kill(pid, signal.SIGCONT)
            kill_at = time.monotonic() + stop_seconds_max
        elif kill_at is not None and time.monotonic() >= kill_at:
            os.kill(pid, signal.SIGKILL)
            kill_at = time.monotonic() + stop_seconds_max
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
