"""A supervisor that is a subreaper (Linux): processes below it that lose their parent become its
children, and it waits for them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys

PR_SET_CHILD_SUBREAPER = 36
LOOK_SECONDS = 5.0


def adopt_orphans(on: bool) -> bool:
    """Whether it has worked: from here on (or no more) orphans are ours, not init's."""
    if sys.platform != "linux":
        return False
    status: int = ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)
    return status == 0


async def bury_orphans(look_seconds: float = LOOK_SECONDS) -> None:
    """Until it is cancelled: waits for dead children that nobody else waits for.

    Who has started a process waits for it within milliseconds (asyncio, `subprocess`) or the next
    look at its servers (`supervisor.WATCH_SECONDS`). One that is dead in two looks in a row is
    nobody's: a server's child that has outlived it, a role whose fork server was killed before
    anybody knew it.
    """
    before: int | None = None
    while True:
        before = _bury(before)
        await asyncio.sleep(look_seconds)


def _bury(before: int | None) -> int | None:
    """Buries all that are dead up to `before` and returns a dead one that may still be awaited."""
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        if dead is None or dead.si_pid != before:
            return None if dead is None else dead.si_pid
        os.waitpid(dead.si_pid, os.WNOHANG)
