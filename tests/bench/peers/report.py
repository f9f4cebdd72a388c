"""The comparison as a table: a column a subject, with its ratio to Thalweg's figure."""

from collections.abc import Callable, Sequence

from rich.table import Table

from tests.bench.peers.measure import Found
from tests.bench.peers.subject import Subject

Line = tuple[str, list[str]]


def lines(found: Sequence[Found]) -> list[Line]:
    """What was measured, and each subject's figure; the first one is Thalweg."""
    return [
        figure("added to the first token, p50", found, lambda one: one.added("p50"), milliseconds),
        figure("added to the first token, p95", found, lambda one: one.added("p95"), milliseconds),
        figure("32 at a time, streamed", found, lambda one: one.streamed, rate),
        figure("32 at a time, not streamed", found, lambda one: one.plain, rate),
        ("finished answers lost by a kill -9", [lost_answers(one) for one in found]),
        ("shown tokens lost by a kill -9 in mid-answer", [lost_tokens(one) for one in found]),
        (
            "generations for an answer that a kill broke and its client repeated",
            [f"{one.shown.generations:.1f}" for one in found],
        ),
        (
            "generations for a send that the official client repeated",
            [f"{one.generations:.1f}" for one in found],
        ),
    ]


def figure(
    what: str, found: Sequence[Found], of: Callable[[Found], float], text: Callable[[float], str]
) -> Line:
    """Every figure, those of the peers with how many times Thalweg's they are."""
    own = of(found[0])
    texts = [text(own)]
    for one in found[1:]:
        ratio = f" ({of(one) / own:.2f}x)" if own > 0 else ""
        texts.append(f"{text(of(one))}{ratio}")
    return what, texts


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1_000:.1f} ms"


def rate(per_second: float) -> str:
    return f"{per_second:.0f}/s"


def lost_answers(one: Found) -> str:
    if one.kept is None:
        return "keeps none"
    share = one.kept.lost / one.kept.acknowledged if one.kept.acknowledged else 0.0
    return f"{one.kept.lost} of {one.kept.acknowledged} ({share:.0%})"


def lost_tokens(one: Found) -> str:
    share = one.shown.lost / one.shown.shown
    return f"{one.shown.lost} of {one.shown.shown} ({share:.0%})"


def table(found: Sequence[Found]) -> Table:
    made = Table(
        title="Thalweg and its peers, each alone in front of the same engine (n x Thalweg's)"
    )
    made.add_column("what")
    for one in found:
        made.add_column(one.name)
    for what, texts in lines(found):
        made.add_row(what, *texts)
    return made


def markdown(found: Sequence[Found], subjects: Sequence[Subject]) -> str:
    head = f"| | {' | '.join(one.name for one in found)} |"
    said = [head, "|---" * (len(found) + 1) + "|"]
    said += [f"| {what} | {' | '.join(texts)} |" for what, texts in lines(found)]
    said.append("")
    said += [f"- {' '.join([one.name, one.version]).strip()}: {one.settings}." for one in subjects]
    return "\n".join(said)
