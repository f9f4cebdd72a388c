"""Plays all cases, round after round, and writes docs/reliability.md (`make faults ROUNDS=20`).

Each round has a fresh installation and a seed, which is printed with every verdict: `--seed` and
`--cases` play it again. Verdicts are kept beside the histories as they come, so a run that was
stopped has said what it found, and `--go-on` adds to it.
"""

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class Run:
    """What was asked for."""

    cases: Sequence[Case]
    long: bool
    kept: Path
    until: float
    """By time.monotonic(): no case begins later."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cases", default="", help="only those with any of these in their name")
    parser.add_argument("--seed", type=int, default=None, help="of the first round; else random")
    parser.add_argument("--short", action="store_true", help="the form that make test has")
    parser.add_argument("--into", type=Path, default=Path(".faults"), help="folder of what is kept")
    parser.add_argument("--go-on", action="store_true", help="add to what is there")
    parser.add_argument("--minutes-max", type=float, default=0, help="0: as long as it takes")
    parser.add_argument("--report", type=Path, default=None, help="write it there")
    parser.add_argument("--note", default="", help="stands in the report")
    asked = parser.parse_args()
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    run = Run(
        chosen(asked.cases, Form.SHORT if asked.short else Form.LONG),
        not asked.short,
        asked.into,
        time.monotonic() + asked.minutes_max * 60 if asked.minutes_max else float("inf"),
    )
    verdicts_file = run.kept / VERDICTS
    run.kept.mkdir(parents=True, exist_ok=True)
    if not asked.go_on:
        verdicts_file.unlink(missing_ok=True)
    say(f"{len(run.cases)} cases, {asked.rounds} rounds, seed {seed}")
    for number in range(asked.rounds):
        play_round(run, seed + number)
    verdicts = [Verdict(**json.loads(line)) for line in verdicts_file.read_text().splitlines()]
    if asked.report is not None and verdicts:
        command = f"make faults ROUNDS={asked.rounds}" + (" (short form)" if asked.short else "")
        write_report(asked.report, verdicts, command=command, names=len(ANOMALIES), note=asked.note)
    wrong = [one for one in verdicts if one.found]
    say(f"{len(verdicts)} rounds of cases, {len(wrong)} found something")
    return 1 if wrong or not verdicts else 0


def chosen(names: str, form: Form) -> list[Case]:
    """Those of one installation together."""
    cases = [
        case
        for case in CASES
        if form in case.forms and any(part in case.name for part in names.split(","))
    ]
    assert cases, f"no case is named like {names}"
    return sorted(cases, key=lambda case: case.installation.name)


def play_round(run: Run, seed: int) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="thalweg-faults-") as folder,
        Installations(Path(folder)) as installations,
    ):
        for number, case in enumerate(run.cases, 1):
            if time.monotonic() > run.until:
                say("the time is over")
                return
            try:
                on = installations.of(case.installation)
            except Exception as error:
                found = [f"{case.installation.name} did not start: {error}"]
                verdict = Verdict(case.name, case.role, seed, found)
            else:
                verdict = asyncio.run(play(case, on, seed, run.kept, long=run.long))
            with (run.kept / VERDICTS).open("a") as lines:
                lines.write(json.dumps(verdict.as_json()) + "\n")
            tell(verdict, f"{number}/{len(run.cases)}")
            if verdict.found:
                installations.stop()


def tell(verdict: Verdict, progress: str) -> None:
    judged = f"{verdict.tokens} tokens, {verdict.commands} commands"
    longest = f"{max(verdict.silences, default=0):.2f} s silent"
    line = f"{verdict.seconds:6.1f} s  {judged}, {longest}  {'; '.join(verdict.notes)}"
    say(f"{progress:>7} {verdict.case:40} seed {verdict.seed:10} {line}")
    for what in verdict.found[:SHOWN_MAX]:
        say(f"    {what[:400]}")
    if len(verdict.found) > SHOWN_MAX:
        say(f"    ... {len(verdict.found)} in all")


if __name__ == "__main__":
    sys.exit(main())
