"""docs/reliability.md, from the verdicts of a run."""

import os
import platform
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles

from tests.faults.verdict import Verdict

CONFIDENCE = 0.95
MIB = 1_048_576
HEAD = """# What a fault costs, measured

`make faults` wrote this page; don't edit it. It starts whole installations as child processes,
lets clients work on them, does what the case says at a random moment, and when all is quiet judges
every token and every command by one checker ([tests/faults](../tests/faults/)): what each client
invoked and saw, against the event store, Kafka, and every read model built again from nothing.
"""
NOTES = """
- **tokens** were judged one by one on the screens of clients: each names its place and the engine's
  call that said it. **lost** and **repeated** count what no client may see: tokens and
  chunks that are missing, or there twice; answers without an end count apart. **found** are rounds
  in which anything at all was wrong, of the {names} kinds of anomaly that the checker knows,
  or a read model differed.
- **unknown** are commands of which no client ever learned the outcome: those are in the event store
  once or not at all, and the checker holds that. All other commands were accepted once or refused.
- **next token**: of each answer that was on a screen when the fault came, the longest silence from
  then on, seconds, with what the fault itself lasts. All of them, also those that it did not touch.
- Not judged: faults of several machines (one broker, one PostgreSQL), of disks that lie, and
  anything longer than a round.
"""


def write_report(
    path: Path, verdicts: Sequence[Verdict], *, command: str, names: int, note: str = ""
) -> None:
    path.write_text(report(verdicts, command=command, names=names, note=note))


def report(verdicts: Sequence[Verdict], *, command: str, names: int, note: str = "") -> str:
    """`note`: what a person has to know of this run besides."""
    cases: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        cases[verdict.case].append(verdict)
    rounds = [len(of) for of in cases.values()]
    lines = [
        HEAD,
        f"{datetime.now(UTC):%Y-%m-%d}, {machine()}: `{command}`, {len(cases)} cases, "
        f"{min(rounds)} to {max(rounds)} rounds of each, {sum(rounds)} in all.",
        *(["", note] if note else []),
        "",
        *_totals(verdicts),
        "",
        "| case | rounds | found | tokens | lost | repeated | commands | unknown |"
        " next token p50 | p99 | longest |",
        "| --- " + "| ---: " * 10 + "|",
        *(_row(name, cases[name]) for name in cases),
        NOTES.format(names=names),
    ]
    wrong = [one for one in verdicts if one.found]
    if wrong:
        lines += ["## What was found", ""]
        lines += [f"- {one.case}, seed {one.seed}: {one.found[0][:200]}" for one in wrong]
        lines += [""]
    return "\n".join(lines)


def _totals(verdicts: Sequence[Verdict]) -> list[str]:
    """Each sum with the bound that it allows."""
    tokens, answers = sum(one.tokens for one in verdicts), sum(one.answers for one in verdicts)
    commands = sum(one.commands for one in verdicts)
    texts = sum(one.lost + one.repeated for one in verdicts)
    ends = sum(one.unended for one in verdicts)
    writes = sum(one.broken_writes for one in verdicts)
    found = sum(bool(one.found) for one in verdicts)
    return [
        "| | judged | broken | at most, with 95 % confidence |",
        "| --- | ---: | ---: | --- |",
        f"| rounds | {len(verdicts):,} | {found} | {bound(found, len(verdicts))} |",
        f"| tokens: lost or repeated | {tokens:,} | {texts} | {bound(texts, tokens)} |",
        f"| answers: no end was seen | {answers:,} | {ends} | {bound(ends, answers)} |",
        f"| commands: lost, or done twice | {commands:,} | {writes} | {bound(writes, commands)} |",
        "",
        "The bound is Clopper and Pearson's, for none of n (about 3/n), and says what independent",
        "trials would allow: tokens of one round share its fault, so the rounds' bound is the one",
        "to believe of faults that were not met.",
    ]


def bound(broken: int, of: int) -> str:
    """Upper, one-sided, for a zero; with anything broken the list below says more than a bound."""
    if broken or not of:
        return "not bounded: see what was found" if broken else "nothing was judged"
    most = 1 - (1 - CONFIDENCE) ** (1 / of)
    return f"{most:.1%}" if most > 0.001 else f"1 in {round(1 / most):,}"


def _row(name: str, of: Sequence[Verdict]) -> str:
    silences = sorted(silence for one in of for silence in one.silences)
    fields = [
        name,
        len(of),
        sum(bool(one.found) for one in of),
        f"{sum(one.tokens for one in of):,}",
        sum(one.lost for one in of),
        sum(one.repeated for one in of),
        f"{sum(one.commands for one in of):,}",
        sum(one.unknown for one in of),
        *(f"{seconds:.2f}" for seconds in spread(silences)),
    ]
    return "| " + " | ".join(map(str, fields)) + " |"


def spread(seconds: Sequence[float]) -> tuple[float, float, float]:
    """p50, p99 and the longest."""
    if len(seconds) < 2:
        only = seconds[0] if seconds else 0.0
        return only, only, only
    cuts = quantiles(seconds, n=100, method="inclusive")
    return cuts[49], cuts[98], max(seconds)


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MIB / 1024
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"
