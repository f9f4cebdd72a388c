"""Verdicts that outlast a run: to try all mutants takes longer than some machines are free.

A caught one is not tried again as long as nothing that it rests on has changed: the patch, the
files that it changes and the file of the test that caught it.
"""

import json
from pathlib import Path
from threading import Lock

from tests.mutants.bench import ROOT, Verdict, digest
from tests.mutants.mutant import Mutant


class Kept:
    """In a file of JSON lines, the newest last; nowhere if there is none. For several threads."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = Lock()
        self._lines: dict[str, dict[str, object]] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                one = json.loads(line)
                self._lines[one["mutant"]] = one

    def of(self, mutant: Mutant) -> Verdict | None:
        """None: it has to be tried."""
        one = self._lines.get(mutant.name)
        if one is None:
            return None
        kept = Verdict(
            mutant,
            str(one["caught_by"]),
            expected=bool(one["expected"]),
            seconds=float(str(one["seconds"])),
            rests_on=str(one["rests_on"]),
        )
        return kept if kept.rests_on == digest(ROOT, mutant, str(kept.caught_by)) else None

    def keep(self, verdict: Verdict) -> None:
        if self._path is None or verdict.caught_by is None:
            return
        one = {
            "mutant": verdict.mutant.name,
            "caught_by": verdict.caught_by,
            "expected": verdict.expected,
            "seconds": round(verdict.seconds, 1),
            "rests_on": verdict.rests_on,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, self._path.open("a") as file:
            file.write(json.dumps(one) + "\n")
