"""Engines that say numbered tokens, each a process that can be killed and started again."""

import json
import signal
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from infra.servers.ports import free_port
from tests.fixtures.numbered_faults import Faults
from tests.fixtures.processes import Process, wait_for

CALLS_OF_A_LIFE = 1_000_000
"""Calls are numbered through all lives of all engines, so that a tag names one call."""
ASKED_SECONDS_MAX = 30
LISTENS_SECONDS_MAX = 120
TGI, OPENAI, ALONE = "numbered", "numbered-openai", "numbered-alone"
"""Models: two engines each, but one for the last."""


class Engines:
    """`kinds` are (protocol, model) of each; all run."""

    def __init__(self, folder: Path, kinds: Sequence[tuple[str, str]]) -> None:
        self._folder = folder
        self._kinds = kinds
        self._lives = 0
        self._of_the_dead: Counter[str] = Counter()
        self._faults = [Faults() for _ in kinds]
        self._ports = [free_port() for _ in kinds]
        self._processes = [self._start(which) for which in range(len(kinds))]

    def _start(self, which: int) -> Process:
        port, model = str(self._ports[which]), self._kinds[which][1]
        first = str(self._lives * CALLS_OF_A_LIFE)
        self._lives += 1
        said = ["--tag-calls", "--calls-before", first]
        faults = self._faults[which]
        told = [f"--fault={kind}" for kind in faults.kinds]
        told += [f"--fault-share={faults.share}", f"--fault-seed={faults.seed + self._lives}"]
        return Process(
            self._folder / f"engine-{port}.log",
            *("-m", "tests.fixtures.numbered_engine", "--port", port, "--model", model),
            *(*said, *told),
        )

    def _first(self, model: str) -> int:
        return [served for _, served in self._kinds].index(model)

    def those_of(self, model: str) -> list[int]:
        """All engines of a model, by number."""
        return [which for which, (_, served) in enumerate(self._kinds) if served == model]

    def tell(self, which: int, faults: Faults) -> None:
        """What goes wrong with an engine's calls from now on, in its later lives too."""
        self._faults[which] = faults
        if not self._runs(which):
            return
        body = json.dumps(asdict(faults)).encode()
        self._ask(which, "/faults", method="PUT", data=body)

    def counts(self, which: int) -> Counter[str]:
        """What has happened in this life of an engine."""
        said = json.loads(self._ask(which, "/calls"))
        return Counter({name: n for name, n in said.items() if isinstance(n, int)})

    def counted(self) -> Counter[str]:
        """What has happened in all lives of all engines, but for the moment before a kill."""
        return sum(
            (self.counts(which) for which in range(len(self._kinds)) if self._runs(which)),
            start=self._of_the_dead,
        )

    def _ask(self, which: int, path: str, *, method: str = "GET", data: bytes | None = None) -> str:
        url = f"http://127.0.0.1:{self._ports[which]}{path}"
        asking = urllib.request.Request(url, data=data, method=method)
        with urllib.request.urlopen(asking, timeout=ASKED_SECONDS_MAX) as response:
            return str(response.read().decode())

    def _listen(self) -> bool:
        try:
            for which in range(len(self._kinds)):
                if self._runs(which):
                    self._ask(which, "/health")
        except OSError:
            return False
        return True

    def _runs(self, which: int) -> bool:
        return self._processes[which].returncode is None

    def address(self, model: str) -> str:
        """Where the first engine of the model listens."""
        return f"http://127.0.0.1:{self._ports[self._first(model)]}"

    def kill(self, model: str) -> None:
        """Kills the first engine of the model."""
        which = self._first(model)
        self._of_the_dead += self.counts(which)
        process = self._processes[which]
        process.signal(signal.SIGKILL)
        process.wait(seconds_max=ASKED_SECONDS_MAX)

    def wait(self) -> None:
        """Until every engine that runs listens."""
        wait_for(self._listen, "the engines to listen", seconds_max=LISTENS_SECONDS_MAX)

    def revive(self, model: str) -> None:
        """Starts the first engine of the model again, at its address, if it does not run."""
        which = self._first(model)
        if not self._runs(which):
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
