"""`make mutants`: plants each bug of this folder in a copy of the tree; says which test found it.

    python -m tests.mutants [--jobs N] [--keep FILE] [NAME...]

Exit status 0 only if all were caught. Without names the table of docs/mutants.md is written anew.
With a file to keep verdicts in, they need not all come from one run: see `tests/mutants/kept.py`.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from tests.mutants.bench import ROOT, Bench, Verdict
from tests.mutants.kept import Kept
from tests.mutants.mutant import Mutant, all_mutants

DOC = ROOT / "docs" / "mutants.md"
INTRO = """# Planted bugs

Written by `make mutants`, which plants each of these bugs in a copy of the tree and runs the tests
that are named for it, then the other quick ones. A bug counts as caught if a test fails with it and
passes without it; seconds are those until then, on a machine of two cores with other work to do.
What was caught is not tried again while the patch, the files that it changes and the file of the
test that caught it stay as they are. The patches are in [tests/mutants](../tests/mutants); a test
of the house holds that each still applies.

"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--keep", type=Path, help="where caught ones are kept, not tried again")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    known = {mutant.name: mutant for mutant in all_mutants()}
    chosen = [known[name] for name in given.names] or list(known.values())
    kept = Kept(given.keep)
    verdicts = try_all(chosen, given.jobs, kept)
    missed = [one for one in verdicts if one.caught_by is None]
    for one in missed:
        say(f"\n{one.mutant.name} was not caught: {one.why_not}")
    say(f"\n{len(verdicts) - len(missed)} of {len(verdicts)} were caught.")
    if not given.names:
        DOC.write_text(INTRO + table(verdicts))
    return 1 if missed else 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def try_all(mutants: Sequence[Mutant], jobs: int, kept: Kept) -> list[Verdict]:
    with tempfile.TemporaryDirectory(prefix="mutants-") as home:
        benches: Queue[Bench] = Queue()
        for number in range(jobs):
            benches.put(Bench(Path(home) / f"copy-{number}"))

        def try_out(mutant: Mutant) -> Verdict:
            known = kept.of(mutant)
            if known is not None:
                return known
            bench = benches.get()
            try:
                verdict = bench.try_out(mutant)
            finally:
                benches.put(bench)
            kept.keep(verdict)
            say(line(verdict))
            return verdict

        with ThreadPoolExecutor(jobs) as threads:
            return list(threads.map(try_out, mutants))


def line(one: Verdict) -> str:
    caught = one.caught_by or "NOT CAUGHT"
    note = "" if one.expected or one.caught_by is None else "  (not by what is named for it)"
    return f"{one.seconds:6.1f} s  {one.mutant.name:44} {caught}{note}"


def table(verdicts: Sequence[Verdict]) -> str:
    caught = sum(one.caught_by is not None for one in verdicts)
    rows = [f"| {one.mutant.what} | {_test(one)} | {one.seconds:.0f} |" for one in verdicts]
    head = ["| What is wrong | Caught by | s |", "|---|---|---|"]
    return f"{caught} of {len(verdicts)} are caught.\n\n" + "\n".join([*head, *rows]) + "\n"


def _test(one: Verdict) -> str:
    if one.caught_by is None:
        return "**nobody**"
    path, _, name = one.caught_by.partition("::")
    return f"`{name}` in {path.removeprefix('tests/')}"


if __name__ == "__main__":
    sys.exit(main())
