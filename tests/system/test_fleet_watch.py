"""`thalweg fleet --watch`: on a terminal, without one, and how it ends."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.fixtures.processes import ROOT
from tests.fixtures.thalweg import RunningThalweg

SECONDS_MAX = 120.0
READ_BYTES = 65_536
IN, OUT = "\x1b[?1049h", "\x1b[?1049l"
"""A terminal's other screen, where nothing is scrolled away: into it, and back."""
HOME = "\x1b[H"
"""The cursor goes back to the top: what is there is drawn over."""
SHOW_CURSOR = "\x1b[?25h"
COLOURED = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Watching:
    """The command, and what it has written so far."""

    process: subprocess.Popen[bytes]
    end: int
    """Of the terminal or pipe that it writes to."""
    text: str = ""

    def read(self) -> bool:
        """More of it. False: there is no more."""
        readable, _, _ = select.select([self.end], [], [], SECONDS_MAX)
        assert readable, self.text
        try:
            more = os.read(self.end, READ_BYTES)
        except OSError:  # a terminal whose other side is closed
            return False
        self.text += more.decode(errors="replace")
        return bool(more)

    def until(self, condition: Callable[[str], bool]) -> None:
        end = time.monotonic() + SECONDS_MAX
        while not condition(self.text):
            assert time.monotonic() < end, self.text
            assert self.read(), self.text

    def interrupt(self) -> str:
        """Ctrl-C; what it wrote after it."""
        seen = len(self.text)
        self.process.send_signal(signal.SIGINT)
        while self.read():
            pass
        self.process.wait(SECONDS_MAX)
        return self.text[seen:]


Watch = Callable[..., Watching]


@pytest.fixture
def watch(numbered: RunningThalweg) -> Iterator[Watch]:
    started: list[Watching] = []

    def start(*options: str, terminal: str | None = None) -> Watching:
        """On a terminal of that type; without one into a pipe."""
        end, its_end = pty.openpty() if terminal else os.pipe()
        size = {"COLUMNS": "160", "LINES": "40", "TERM": terminal or "dumb"}
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.cli.main", "fleet", "--watch", *options],
            cwd=ROOT,
            env={**numbered.env, **size},
            stdin=subprocess.DEVNULL,
            stdout=its_end,
            stderr=its_end,
        )
        os.close(its_end)
        started.append(Watching(process, end))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait(SECONDS_MAX)
        with suppress(OSError):
            os.close(one.end)


def tables(text: str) -> int:
    """How often it was drawn."""
    return COLOURED.sub("", text).count("breaker")


def test_it_draws_and_redraws_in_its_place_and_leaves_the_terminal_as_it_was(watch: Watch) -> None:
    watching = watch(terminal="xterm-256color")
    watching.until(lambda text: tables(text) > 2)
    assert watching.text.count(IN) == 1
    assert watching.text.count(HOME) >= 2
    assert "closed" in watching.text
    last = watching.interrupt()
    assert OUT in last
    assert SHOW_CURSOR in last
    assert (watching.process.returncode, "Traceback" in watching.text) == (0, False)


@pytest.mark.parametrize("terminal", [None, "dumb"], ids=["a pipe", "a dumb terminal"])
def test_what_cannot_be_drawn_over_is_written_one_below_the_other(
    watch: Watch, terminal: str | None
) -> None:
    watching = watch(terminal=terminal)
    watching.until(lambda text: tables(text) > 1)
    watching.interrupt()
    assert "\x1b" not in watching.text
    assert (watching.process.returncode, "Traceback" in watching.text) == (0, False)


def test_programs_get_an_object_a_line(watch: Watch) -> None:
    watching = watch("--json")
    watching.until(lambda text: text.count("\n") > 1)
    watching.interrupt()
    lines = [json.loads(line) for line in watching.text.splitlines()]
    assert all(line["engines"][0]["breaker"] == "closed" for line in lines)
    assert watching.process.returncode == 0


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_it_ends_when_nobody_reads_any_more(
    numbered: RunningThalweg, options: tuple[str, ...]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "infra.cli.main", "fleet", "--watch", *options],
        cwd=ROOT,
        env=numbered.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(SECONDS_MAX) == 1
