"""How a Python role and its supervisor are tied: the role dies with it, and hands over to the next.

One socket pair: its end is the supervisor's end, a byte is a word. On Linux the kernel helps.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable

from infra.servers.warden import die_with_parent

ORPHANED = 70  # the exit status of a role whose supervisor is gone
# What the supervisor says:
GO = b"g"  # servers and schemas are there: work may begin
RELEASE = b"r"  # the next life does the work, or nobody is to: end
# What the role says:
WORKS = b"w"  # it takes what comes
LEAVES = b"l"  # it was told to stop, and works on until it is released


class Lifeline:
    """The role's side. Words are heard by a thread of its own."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._go, self._released = threading.Event(), threading.Event()
        self._when_released: Callable[[], None] = lambda: None

    def wait(self) -> None:
        """Returns when the supervisor says that work may begin."""
        self._go.wait()

    def works(self) -> None:
        """Says that the life before may be released."""
        self._say(WORKS)

    def leave(self, released: Callable[[], None]) -> None:
        """Says that somebody wants this life to end; `released` is called, in any thread, when the
        next one does the work."""
        self._when_released = released
        if self._released.is_set():
            released()
        else:
            self._say(LEAVES)

    def _say(self, word: bytes) -> None:
        try:
            os.write(self._fd, word)
        except OSError:  # the supervisor is gone, and so is this process in a moment
            return

    def listen(self) -> None:
        """Until the supervisor is gone: then this process is ended, and nothing is cleaned up."""
        while word := self._heard():
            if word == GO:
                self._go.set()
            elif word == RELEASE:
                self._released.set()
                self._when_released()
        sys.stderr.flush()
        os._exit(ORPHANED)

    def _heard(self) -> bytes:
        try:
            return os.read(self._fd, 1)
        except OSError:  # it left something of ours unread
            return b""


def watch(fd: int) -> Lifeline:
    """Ends this process at once when the supervisor, which alone holds the other end, is gone.

    A role must bear kill -9 at any moment anyway. A stopped process (SIGSTOP) cannot read; there
    the kernel's parent-death signal helps, which needs the supervisor to have started this process
    from its main thread.
    """
    line = Lifeline(fd)
    die_with_parent(signal.SIGKILL, os.getppid())
    threading.Thread(target=line.listen, name="lifeline", daemon=True).start()
    return line
