"""Arms a failpoint of a running role, and says when it has struck."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from infra.failpoints import CATALOGUE, folder_of
from tests.fixtures.processes import alive, born, wait_for
from tests.fixtures.thalweg import RunningThalweg

AT_START = frozenset(
    {
        "relay.after_take",
        "answers.on_assignment",
        "answers.before_tail",
        "recorder.on_assignment",
        "sagas.on_assignment",
    }
)
"""Hit when a process begins: it is killed once, and its next life is killed there."""
OF_TIMERS = frozenset(
    {"sagas.after_timer", "sagas.after_firing", "sagas.after_take", "sagas.after_send"}
    | {"sagas.after_outcome"}
)
"""Hit only when an answer is open past its deadline and a grace."""
AT_STOP = frozenset({"relay.before_release"})
STOPPED_MAX = 5
"""Times that a process is told to stop there: one that had only just begun does not come by it."""
OF_ONE_COMMAND = ("rebuild", "prepare")
"""Roles that are verbs of the command line."""
AFTER_A_REFUSAL = "projections.after_refusal"
WRITERS = {
    "gateway": frozenset(name for name in CATALOGUE if name.startswith("store.")),
    "recorder": frozenset({"store.before_append", "store.after_append"}),
}
"""Whose side effects those of the event store are."""


@dataclass(frozen=True, slots=True)
class Strike:
    """A process of that role kills itself at that hit of that failpoint."""

    role: str
    name: str
    hit: int = 1

    def __str__(self) -> str:
        return f"{self.role} at {self.name}:{self.hit}"

    @property
    def plan(self) -> str:
        return f"{self.name}:{self.hit}=kill"


def strikes_of(role: str) -> list[Strike]:
    """The first hit of each failpoint that a role comes by under load."""
    others = OF_TIMERS | {AFTER_A_REFUSAL}
    names = [name for name in CATALOGUE if name.startswith(f"{role}.") and name not in others]
    return [Strike(role, name) for name in (*names, *sorted(WRITERS.get(role, ())))]


def arm(thalweg: RunningThalweg, strike: Strike) -> int:
    """Returns the pid of the process that will strike; 0: it is not born yet."""
    if strike.name in AT_STOP:
        return _stop_armed(thalweg, strike)
    _lay_down(thalweg, strike.role, strike.plan)
    if strike.name in AT_START:
        thalweg.signal(strike.role, signal.SIGKILL)
        return 0
    return _tell(thalweg, strike)


def _lay_down(thalweg: RunningThalweg, role: str, plan: str) -> Path:
    """Where the next process of the role takes it that begins, or is told."""
    folder = folder_of(thalweg.home)
    folder.mkdir(exist_ok=True)
    draft = folder / f"draft-{role}"
    draft.write_text(plan)
    return draft.rename(folder / role)


def _tell(thalweg: RunningThalweg, strike: Strike) -> int:
    return thalweg.signal(strike.role, signal.SIGUSR2, which=oldest(thalweg, strike.role))


def _stop_armed(thalweg: RunningThalweg, strike: Strike) -> int:
    """Again, if it stopped without a strike: before it had begun, or another took its plan."""
    since = len(strikes_told(thalweg))
    for _ in range(STOPPED_MAX):
        laid = _lay_down(thalweg, strike.role, strike.plan)
        pid = _tell(thalweg, strike)
        wait_until_taken(laid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda gone=pid: not alive(gone), f"{strike.role} {pid} to stop")
        if has_struck(thalweg, strike, since):
            break
    return pid


def oldest(thalweg: RunningThalweg, role: str) -> int:
    """Which of its processes works already, while another one may only just begin."""
    pids = wait_for(lambda: thalweg.pids(role), f"a process of role {role}")
    return min(range(len(pids)), key=lambda which: born(pids[which]))


def disarm(thalweg: RunningThalweg, role: str) -> None:
    """No process of the role follows a plan any more."""
    for pid in thalweg.pids(role):
        laid = _lay_down(thalweg, role, "")
        os.kill(pid, signal.SIGUSR2)
        wait_until_taken(laid)


def wait_until_taken(plan: Path) -> None:
    wait_for(lambda: not plan.exists(), f"{plan} to be taken")


def strikes_told(thalweg: RunningThalweg) -> list[str]:
    """Lines `ROLE PID NAME HIT kill`, in order; each was written just before the kill."""
    hits = folder_of(thalweg.home) / "hits"
    return hits.read_text().splitlines() if hits.exists() else []


def has_struck(thalweg: RunningThalweg, strike: Strike, since: int) -> bool:
    """Whether it is among what was told after the first `since` lines, and its process is dead."""
    for line in strikes_told(thalweg)[since:]:
        role, pid, name, hit, _ = line.split()
        if (role, name, int(hit)) == (strike.role, strike.name, strike.hit):
            return not alive(int(pid))
    return False
