"""What the parts of a run share: the engine, a whole Thalweg, and how much is to be done."""

import os
import platform
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from infra.servers.ports import free_port
from tests.bench.client import Target
from tests.bench.scale import Scale
from tests.bench.streams import SETTINGS
from tests.fixtures.collector import Collector
from tests.fixtures.processes import ROOT, Process, wait_for
from tests.fixtures.thalweg import RunningThalweg


@dataclass
class World:
    """One run. Its Thalweg is started by the first part that asks for it."""

    folder: Path
    console: Console
    scale: Scale
    engine: Target
    engine_pid: int
    collector: Collector | None = None
    """Takes the traces of the shared Thalweg, which is told about it only if there is one."""
    sections: dict[str, str] = field(default_factory=dict)
    """Markdown that a part adds to the document, by its name."""
    pictures: dict[str, str] = field(default_factory=dict)
    """SVG by file name."""
    _thalweg: RunningThalweg | None = None
    _homes: int = 0

    @property
    def thalweg(self) -> RunningThalweg:
        if self._thalweg is None:
            self.console.log("starting Thalweg")
            told = {} if self.collector is None else otlp(self.collector)
            self._thalweg = self.another(**told).start()
        return self._thalweg

    @property
    def target(self) -> Target:
        return Target(self.thalweg.port, self.thalweg.api_key)

    def another(self, *, engines: str = "", **settings: str) -> RunningThalweg:
        """One with a folder of its own, not started; without `engines` it has the run's."""
        self._homes += 1
        home = self.folder / f"home-{self._homes}"
        engines = engines or f"tgi+http://127.0.0.1:{self.engine.port}"
        return RunningThalweg(home, engines=engines, **{**SETTINGS, **settings})

    def stop(self) -> None:
        """So that what is measured next is alone on the machine."""
        if self._thalweg is not None:
            self._thalweg.stop()
            self._thalweg = None

    def logs(self) -> str:
        return self._thalweg.logs() if self._thalweg is not None else ""


def otlp(collector: Collector) -> dict[str, str]:
    return {"THALWEG_OTLP_ENDPOINT": collector.endpoint}


@contextmanager
def world(
    folder: Path, console: Console, scale: Scale, *, collector: Collector | None = None
) -> Iterator[World]:
    """A run in a folder; all that it started is stopped in the end."""
    port = free_port()
    module = ("-m", "tests.fixtures.numbered_engine", "--port", str(port))
    engine = Process(folder / "engine.log", *module)
    made = World(folder, console, scale, Target(port), engine.pid, collector)
    try:
        wait_for(lambda: _listens(port), "the engine")
        yield made
    finally:
        made.stop()
        engine.stop()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def revision() -> str:
    """What is measured: the commit, and whether files differ from it."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or "an unknown revision"


def where() -> str:
    """When, what, and on what machine."""
    cores, today = len(os.sched_getaffinity(0)), datetime.now(UTC)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{today.day} {today:%B %Y}, revision {revision()}, {cores} cores ({platform.machine()}), "
        f"{memory:.0f} GiB, Python {platform.python_version()}"
    )


def beside() -> str:
    """What else ran on the machine: ask before the run makes its own."""
    return f"load average before the run {os.getloadavg()[0]:.1f}"
