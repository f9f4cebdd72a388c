"""What is compared: a server of answers that can be started, killed, and asked what it kept.

Each runs alone on the machine beside the engine, its own store and the load, as one installation
with one process of each kind, in the settings that its makers recommend for production.
"""

import os
import signal
import subprocess
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from tests.bench.client import Target
from tests.fixtures.processes import ROOT, family, wait_for

READY_SECONDS_MAX = 240
"""LiteLLM imports for ten seconds on an idle machine."""

STOP_SECONDS_MAX = 20
PROBE_SECONDS_MAX = 2


class Subject(ABC):
    """One installation. `start` returns when it answers."""

    name: str
    version: str = ""
    settings: str = ""
    """How it was set, in a sentence."""
    keeps_answers = True
    """Whether what it has said can be read afterwards."""

    @property
    @abstractmethod
    def target(self) -> Target:
        """Where it is asked."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> None: ...

    @abstractmethod
    def kill(self) -> None:
        """kill -9 of every process that is its own, at once; servers that it uses live on."""

    @abstractmethod
    def restart(self) -> None:
        """Returns when it answers again."""


class Command:
    """A program of another environment, its output in a log file."""

    def __init__(
        self, program: Path, *arguments: str, folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self._line = [str(program), *arguments]
        self._folder = folder
        self._log = folder / f"{program.name}.log"
        # Nothing of this environment: not its site-packages, not its settings.
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "TMPDIR")}
        self._env = {**kept, "HOME": str(folder), **(env or {})}
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, health: str) -> None:
        """Returns when a GET of `health` succeeds."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            self._child = subprocess.Popen(
                self._line,
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_for(lambda: self._answers(health), health, seconds_max=READY_SECONDS_MAX)
        except AssertionError as error:
            self.stop()
            said = self._log.read_text(errors="replace")[-3_000:]
            raise AssertionError(f"{error}\n{said}") from None

    def _answers(self, health: str) -> bool:
        assert self._child is not None
        assert self._child.poll() is None, (
            f"{self._line[0]} ended: {self._log.read_text()[-3_000:]}"
        )
        try:
            with urllib.request.urlopen(health, timeout=PROBE_SECONDS_MAX) as response:
                return bool(response.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def kill(self) -> None:
        assert self._child is not None
        for pid in family(self._child.pid):
            os.kill(pid, signal.SIGKILL)
        self._child.wait(STOP_SECONDS_MAX)

    def stop(self) -> None:
        if self._child is None or self._child.poll() is not None:
            return
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()


def environment(name: str) -> Path | None:
    """The environment that `make peers` made for it, if it did."""
    folder = ROOT / f".venv-peers-{name}"
    return folder / "bin" if (folder / "stamps" / "made").exists() else None


def version_of(program: Path, package: str) -> str:
    asked = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run(
        [str(program.parent / "python"), "-c", asked], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
