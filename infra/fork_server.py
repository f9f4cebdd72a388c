"""One process that has imported the code of every role, and forks one whenever it is asked to.

Run by the supervisor as `python -m infra.fork_server MODULE --lifeline SOCKET`. MODULE has
`import_roles()`, and `main(arguments)`, which is what `python -m MODULE` calls. A request is one
packet: the role and its options (`gateway --lifeline --listener`), and with it a descriptor for the
role's output and one for each option. The role says its pid on its lifeline. Nothing else is said:
a request that can't be followed is dropped with its descriptors, so the supervisor reads the end of
the lifeline and starts that role by itself.

A role is forked twice, and the process between ends at once: so it is not this process's child but
the supervisor's (which is a subreaper), which alone waits for it and with which alone it dies.
Whatever becomes of this process, what it has forked is not touched.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence

from infra.servers.lifeline import WORKS
from infra.servers.process_title import set_title
from infra.servers.warden import die_with_parent

REQUEST_BYTES_MAX = 4_096
DESCRIPTORS_MAX = 8
PID = struct.Struct("!i")  # what a role says first on its lifeline
ADOPTED_SECONDS_MAX = 10.0  # the process between ends in a millisecond
ADOPTED_POLL_SECONDS = 0.000_2
NOT_ADOPTED = 71  # exit status of a role whose supervisor is gone before it began
THREADS = "/proc/self/task"


class ThreadsBegun(RuntimeError):
    """A fork copies one thread only: locks that others hold are never released in the copy."""

    def __init__(self, threads: int) -> None:
        super().__init__(
            f"{threads} threads run once everything is imported, where one may: roles are started"
            " one by one. Import what begins them later."
        )


def serve(control: socket.socket) -> tuple[list[str], list[int]] | None:
    """None, when the supervisor is gone. In a forked process: the request that it is to follow."""
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES_MAX, DESCRIPTORS_MAX)
        if not packet:
            return None
        if not descriptors:  # a word of the lifeline: it is not for us
            continue
        if _fork_beside(descriptors):
            return packet.decode().split(), descriptors


def _fork_beside(descriptors: Sequence[int]) -> bool:
    """True in a new process that is nobody's child here. Here, lets go of the descriptors."""
    try:
        between = os.fork()
    except OSError as problem:  # the machine is out of processes or memory
        sys.stderr.write(f"could not fork: {problem}\n")
        sys.stderr.flush()
        between = -1
    if between:
        for descriptor in descriptors:
            os.close(descriptor)
        if between > 0:
            os.waitpid(between, 0)
        return False
    try:
        if os.fork():
            os._exit(0)
    except OSError:
        os._exit(1)
    return True


def become(request: tuple[list[str], list[int]], supervisor: int, module: str) -> list[str]:
    """Makes this process what exec would have made of it; returns its arguments."""
    (role, *options), (output, line, *others) = request
    os.setsid()  # Ctrl-C is for the supervisor
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    _await_adoption(supervisor, line)
    die_with_parent(signal.SIGKILL, supervisor)
    passed = zip(options, (line, *others), strict=True)
    arguments = [role, *(word for option, fd in passed for word in (option, str(fd)))]
    sys.argv = [module, *arguments]
    set_title([sys.executable, "-m", module, role], name=role)
    os.write(line, PID.pack(os.getpid()))
    return arguments


def _await_adoption(supervisor: int, line: int) -> None:
    """Ends this process if the supervisor has let go of its line, which says nothing before."""
    until = time.monotonic() + ADOPTED_SECONDS_MAX
    while os.getppid() != supervisor:
        gone, _, _ = select.select([line], [], [], ADOPTED_POLL_SECONDS)
        if gone or time.monotonic() > until:
            os._exit(NOT_ADOPTED)


def main() -> int:
    """The exit status: of this process, or of the role that it has become."""
    module, _, fd = sys.argv[1:]
    supervisor = os.getppid()
    die_with_parent(signal.SIGKILL, supervisor)
    control = socket.socket(fileno=int(fd))
    control.setblocking(True)
    roles = importlib.import_module(module)
    roles.import_roles()
    if (threads := len(os.listdir(THREADS))) > 1:
        raise ThreadsBegun(threads)
    gc.collect()
    gc.freeze()  # a collection in a fork must not write to what all of them share
    control.send(WORKS)
    asked = serve(control)
    control.close()
    if asked is None:
        return 0
    arguments = become(asked, supervisor, module)
    status: int = roles.main(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
