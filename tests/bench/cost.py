"""CPU time a request takes, by the role that takes it. It hardly depends on what else runs."""

import asyncio
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench import measure
from tests.bench.measure import Rate
from tests.fixtures.processes import family
from tests.fixtures.thalweg import RunningThalweg

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
QUIET_SECONDS = 1.0
"""What a request leaves behind (projections gather) is its cost too."""


@dataclass(frozen=True)
class Cost:
    rate: Rate
    seconds: Mapping[str, float]
    """CPU seconds a request, by role; the load generator's as `load`."""

    @property
    def own(self) -> float:
        """Of all roles and servers, without the engine and the load."""
        return sum(s for role, s in self.seconds.items() if role not in ("engine", "load"))


async def cost(thalweg: RunningThalweg, engine_pid: int, *, stream: bool, requests: int) -> Cost:
    before = used(thalweg, engine_pid)
    rate = await measure.rate(thalweg.port, thalweg.api_key, stream=stream, requests=requests)
    await asyncio.sleep(QUIET_SECONDS)
    after = used(thalweg, engine_pid)
    return Cost(rate, {role: (after[role] - before[role]) / requests for role in after})


def used(thalweg: RunningThalweg, engine_pid: int) -> dict[str, float]:
    """CPU seconds so far: of a role all its processes and their children."""
    seconds: dict[str, float] = defaultdict(float)
    for process in thalweg.processes():
        if process["pid"]:
            seconds[process["role"]] += sum(of(pid) for pid in family(process["pid"]))
    seconds["engine"], seconds["load"] = of(engine_pid), of(os.getpid())
    return seconds


def of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
