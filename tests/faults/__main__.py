"""Plays all cases, round after round, and writes docs/reliability.md (`make faults ROUNDS=20`).

Each round has a fresh installation. Verdicts are kept beside the histories as they come, so a run
that was stopped has said what it found, and `--go-on` adds to it.
"""

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.faults.case import Case, Form
from tests.faults.cases import CASES
from tests.faults.checker import ANOMALIES
from tests.faults.installations import Installations
from tests.faults.report import write_report
from tests.faults.runner import play
from tests.faults.verdict import Verdict

VERDICTS = "verdicts.jsonl"
SHOWN_MAX = 5
"""Of what was found in a round; the rest is in its verdict."""


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # for a person who waits


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cases", default="", help="only those with any of these in their name")
    parser.add_argument("--seed", type=int, default=None, help="of the first round; else random")
    parser.add_argument("--short", action="store_true", help="the form that make test has")
    parser.add_argument("--into", type=Path, default=Path(".faults"), help="folder of what is kept")
    parser.add_argument("--go-on", action="store_true", help="add to what is there")
    parser.add_argument("--minutes-max", type=float, default=0, help="begin nothing later; 0: do")
    parser.add_argument("--report", type=Path, default=None, help="write it there")
    asked = parser.parse_args()
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    form = Form.SHORT if asked.short else Form.LONG

    def wanted(name: str) -> bool:
        return any(part in name for part in asked.cases.split(","))

    cases = [case for case in CASES if form in case.forms and wanted(case.name)]
    assert cases, f"no case is named like {asked.cases}"
    kept = asked.into / VERDICTS
    asked.into.mkdir(parents=True, exist_ok=True)
    if not asked.go_on:
        kept.unlink(missing_ok=True)
    say(f"{len(cases)} cases, {asked.rounds} rounds, seed {seed}")
    until = time.monotonic() + asked.minutes_max * 60 if asked.minutes_max else float("inf")
    for number in range(asked.rounds):
        _round(sorted(cases, key=lambda case: case.installation.name), seed + number, kept, until)
    verdicts = [Verdict(**json.loads(line)) for line in kept.read_text().splitlines()]
    if asked.report is not None and verdicts:
        command = f"make faults ROUNDS={asked.rounds}"
        write_report(asked.report, verdicts, command=command, names=len(ANOMALIES))
    wrong = [one for one in verdicts if one.found]
    say(f"{len(verdicts)} rounds of cases, {len(wrong)} found something")
    return 1 if wrong or not verdicts else 0


def _round(cases: Sequence[Case], seed: int, kept: Path, until: float) -> None:
    """Every case once, each with a seed of its own that follows from the round's."""
    with (
        tempfile.TemporaryDirectory(prefix="thalweg-faults-") as folder,
        Installations(Path(folder)) as installations,
    ):
        for case in cases:
            if time.monotonic() > until:
                say("the time is over")
                return
            own = Random(f"{seed} {case.name}").getrandbits(32)
            on = installations.of(case.installation)
            long = "--short" not in sys.argv
            verdict = asyncio.run(play(case, on, own, kept.parent, long=long))
            with kept.open("a") as lines:
                lines.write(json.dumps(verdict.as_json()) + "\n")
            _tell(verdict)
            if verdict.found:
                installations.stop()


def _tell(verdict: Verdict) -> None:
    judged = f"{verdict.tokens} tokens, {verdict.commands} commands"
    longest = f"{max(verdict.silences, default=0):.2f} s silent"
    line = f"{verdict.seconds:6.1f} s  {judged}, {longest}  {verdict.notes or ''}"
    say(f"{verdict.case:40} seed {verdict.seed:10} {line}")
    for what in verdict.found[:SHOWN_MAX]:
        say(f"    {what[:400]}")
    if len(verdict.found) > SHOWN_MAX:
        say(f"    ... {len(verdict.found)} in all")


if __name__ == "__main__":
    sys.exit(main())
