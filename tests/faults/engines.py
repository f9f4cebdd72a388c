"""Engines that say numbered tokens, each a process that can be killed and started again."""

import signal
from collections.abc import Sequence
from pathlib import Path

from infra.servers.ports import free_port
from tests.fixtures.processes import Process

CALLS_OF_A_LIFE = 1_000_000
"""Calls are numbered through all lives of all engines, so that a tag names one call."""
TGI, OPENAI, ALONE = "numbered", "numbered-openai", "numbered-alone"
"""Models: two engines each, but one for the last."""


class Engines:
    """`kinds` are (protocol, model) of each; all run."""

    def __init__(self, folder: Path, kinds: Sequence[tuple[str, str]]) -> None:
        self._folder = folder
        self._kinds = kinds
        self._lives = 0
        self._ports = [free_port() for _ in kinds]
        self._processes = [self._start(which) for which in range(len(kinds))]

    def _start(self, which: int) -> Process:
        port, model = str(self._ports[which]), self._kinds[which][1]
        first = str(self._lives * CALLS_OF_A_LIFE)
        self._lives += 1
        said = ["--tag-calls", "--calls-before", first]
        return Process(
            self._folder / f"engine-{port}.log",
            *("-m", "tests.fixtures.numbered_engine", "--port", port, "--model", model, *said),
        )

    def _first(self, model: str) -> int:
        return [served for _, served in self._kinds].index(model)

    def address(self, model: str) -> str:
        """Where the first engine of the model listens."""
        return f"http://127.0.0.1:{self._ports[self._first(model)]}"

    def kill(self, model: str) -> None:
        """Kills the first engine of the model."""
        process = self._processes[self._first(model)]
        process.signal(signal.SIGKILL)
        process.wait(seconds_max=10)

    def revive(self, model: str) -> None:
        """Starts the first engine of the model again, at its address, if it does not run."""
        which = self._first(model)
        if self._processes[which].returncode is not None:
            self._processes[which] = self._start(which)

    def stop(self) -> None:
        for process in self._processes:
            process.stop()

    @property
    def setting(self) -> str:
        """THALWEG_ENGINES."""
        path = {"tgi": "", "openai": "/v1"}
        return ",".join(
            f"{kind}+http://127.0.0.1:{port}{path[kind]}"
            for (kind, _), port in zip(self._kinds, self._ports, strict=True)
        )
