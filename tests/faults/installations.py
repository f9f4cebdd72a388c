"""Whole installations, started when the first case asks for one, and kept for the next cases."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.faults.case import Installation
from tests.faults.engines import Engines
from tests.faults.runner import Running
from tests.fixtures.thalweg import RunningThalweg


class Installations:
    """One at a time: the machine is small. Use it with `with`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._name = ""
        self._running: Running | None = None
        self._number = 0

    def __enter__(self) -> "Installations":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def of(self, wanted: Installation) -> Running:
        """What runs already, if it is that one."""
        if self._running is None or self._name != wanted.name:
            self.stop()
            self._number += 1
            home = self._folder / f"{self._number}-{wanted.name}"
            self._running = self._stack.enter_context(_running(wanted, home))
            self._name = wanted.name
        return self._running

    def stop(self) -> None:
        """The next case gets a fresh one: after one that was broken."""
        self._running = None
        self._stack.close()


@contextlib.contextmanager
def _running(wanted: Installation, home: Path) -> Iterator[Running]:
    engines = Engines(home / "engines", wanted.engines)
    try:
        with wanted.around(home / "thalweg") as environment:
            chosen = {**wanted.settings, **environment}
            with RunningThalweg(home / "thalweg", engines=engines.setting, **chosen) as thalweg:
                yield Running(thalweg, engines)
    finally:
        engines.stop()
