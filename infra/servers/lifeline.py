"""How a Python role dies with its supervisor: by a pipe's end, on Linux by the kernel."""

import os
import signal
import sys
import threading

from infra.servers.warden import die_with_parent

ORPHANED = 70  # the exit status of a role whose supervisor is gone
GO = b"g"  # what the supervisor writes when servers and schemas are there


def watch(fd: int) -> threading.Event:
    """Ends this process at once when the supervisor, the only writer of the pipe, is gone.

    The event that is returned is set when the supervisor says that work may begin. Nothing is
    cleaned up at the end: a role must bear kill -9 at any moment anyway. A stopped process
    (SIGSTOP) cannot read its pipe; there the kernel's parent-death signal helps, which needs the
    supervisor to have started this process from its main thread.
    """
    go = threading.Event()
    die_with_parent(signal.SIGKILL, os.getppid())
    threading.Thread(target=_read, args=(fd, go), name="lifeline", daemon=True).start()
    return go


def _read(fd: int, go: threading.Event) -> None:
    while os.read(fd, 1):
        go.set()
    sys.stderr.flush()
    os._exit(ORPHANED)
