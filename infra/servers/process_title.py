"""What `ps`, `top` and py-spy show of a process that was forked and not started by a command."""

import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path

PR_SET_NAME = 15
NAME_BYTES_MAX = 15  # of the kernel
ARG_START, ARG_END = 45, 46  # in /proc/PID/stat (proc(5): 48 and 49), counted behind the name


def set_title(command: Sequence[str], *, name: str) -> None:
    """Writes the command over the one that this process was started with (Linux), cut to its room.

    The kernel reads a process's command line from where it has put it at exec, and says itself
    where that is. The environment, which lies behind it, is left alone: that is why no package
    does this for us (setproctitle takes its room too, so /proc/PID/environ would tell nothing).
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode()[:NAME_BYTES_MAX], 0, 0, 0)
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, room = int(stat[ARG_START]), int(stat[ARG_END]) - int(stat[ARG_START])
    if start and room > 0:
        text = "\0".join(command).encode()[: room - 1]
        ctypes.memmove(start, text.ljust(room, b"\0"), room)
