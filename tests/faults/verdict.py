"""What came out of one round of a case: what was found, and how much was judged."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from tests.faults.checker import Anomaly
from tests.faults.checker.text import TOKEN
from tests.faults.history import Happening, Kind


@dataclass
class Verdict:
    case: str
    role: str
    seed: int
    found: list[str] = field(default_factory=list)
    """Anomalies, and whatever else was wrong, in words; empty: every promise was kept."""
    tokens: int = 0
    """Judged one by one on clients' screens."""
    answers: int = 0
    commands: int = 0
    """Keys: each sent once or more."""
    unknown: int = 0
    """Of these, those of which no client knows the outcome."""
    refused: int = 0
    lost: int = 0
    """What clients may not see of text: tokens, chunks."""
    repeated: int = 0
    unended: int = 0
    """Answers whose end no client saw in time."""
    broken_writes: int = 0
    """Commands that were lost, stored twice, or stored though refused."""
    silences: list[float] = field(default_factory=list)
    """Seconds: of each stream that was open at the strike, the longest it was silent after it."""
    seconds: float = 0
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def count(self, history: Sequence[Happening], anomalies: Sequence[Anomaly]) -> None:
        """Fills in how much there was."""
        kinds: dict[str, set[Kind]] = {}
        keys = {one.op: one.facts["key"] for one in history if "key" in one.facts}
        for one in history:
            if one.op in keys and one.kind is not Kind.INVOKE:
                kinds.setdefault(keys[one.op], set()).add(one.kind)
        self.commands = len(kinds)
        self.unknown = sum(Kind.OK not in of and Kind.UNKNOWN in of for of in kinds.values())
        self.refused = sum(of == {Kind.FAIL} for of in kinds.values())
        saw = [one for one in history if one.kind is Kind.SAW and not one.facts["again"]]
        self.answers = len({one.facts["answer"] for one in saw})
        self.tokens = sum(len(TOKEN.findall(one.facts["text"])) for one in saw)
        names = Counter(one.name for one in anomalies)
        self.lost = sum(names[name] for name in LOSSES)
        self.repeated = sum(names[name] for name in REPEATS)
        self.unended = sum(names[name] for name in NO_ENDS)
        self.broken_writes = sum(names[name] for name in WRITES)
        self.silences = silences(history)


LOSSES = ("lost token", "gap", "skipped poll", "truncated", "changed text")
REPEATS = ("repeated token", "duplicate", "reorder")
NO_ENDS = ("unseen", "unseen for too long")
WRITES = ("lost write", "duplicate write", "torn write", "resurrection", "two ends")


def silences(history: Sequence[Happening]) -> list[float]:
    """For each answer that was on a screen at the strike: the longest wait for its next chunk."""
    strike = max(
        (one.at for one in history if one.kind is Kind.MARK and one.what == "strike"), default=None
    )
    if strike is None:
        return []
    arrivals: dict[str, list[float]] = {}
    for one in history:
        if one.kind is Kind.SAW and not one.facts["again"]:
            arrivals.setdefault(one.facts["answer"], []).append(one.at)
    return [
        max(after - max(before, strike) for before, after in pairwise(times) if after > strike)
        for times in arrivals.values()
        if times[0] <= strike < times[-1]
    ]
