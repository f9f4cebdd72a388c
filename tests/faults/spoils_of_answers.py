"""What clients see of answers is spoilt."""

from dataclasses import replace

from tests.faults.history import Kind
from tests.faults.invented import Invented
from tests.faults.spoils import (
    Named,
    add,
    event,
    forget,
    restate,
    said_by_all,
    saw,
    see,
    spoils,
    swap,
)

SPOILS: Named = []


LATE_SECONDS = 10_000


@spoils("gap", SPOILS)
def _(invented: Invented) -> None:
    seen = saw(invented)
    op = seen[0].op
    for one in seen[1:]:  # all in one connection
        swap(invented.history, one, replace(one, op=op))
    invented.history.remove(replace(seen[1], op=op))


@spoils("skipped poll", SPOILS)
def _(invented: Invented) -> None:
    seen = saw(invented)
    op = invented.operation(
        seen[0].client, "stream", answer=seen[0].facts["answer"], after=0, again=False
    )
    for one in seen[2:]:
        invented.history.remove(one)
        invented.history.append(replace(one, op=op))
    invented.history.remove(seen[1])


@spoils("duplicate", SPOILS)
def _(invented: Invented) -> None:
    one = saw(invented)[1]
    swap(invented.history, one, one, one)


@spoils("reorder", SPOILS)
def _(invented: Invented) -> None:
    one, two = saw(invented)[1:3]
    see(invented, one, index=two.facts["index"], text=two.facts["text"])
    see(invented, two, index=one.facts["index"], text=one.facts["text"])


@spoils("lost token", SPOILS)
def _(invented: Invented) -> None:
    said_by_all(invented, [" 0@c7", " 1@c7", " 3@c7 4@c7"])


@spoils("repeated token", SPOILS)
def _(invented: Invented) -> None:
    said_by_all(invented, [" 0@c7", " 1@c7", " 1@c7 2@c7"])


@spoils("splice", SPOILS)
def _(invented: Invented) -> None:
    """A call that was replaced speaks once more, where the numbers fit."""
    said_by_all(invented, [" 0@c7", " 1@c8", " 2@c7"])


@spoils("splice", SPOILS)
def _(invented: Invented) -> None:
    """Another call goes on, and nothing says that there is a seam."""
    said_by_all(invented, [" 0@c7", " 1@c7", " 2@c8"])


@spoils("garbled", SPOILS)
def _(invented: Invented) -> None:
    said_by_all(invented, [" 0@c7", " 1@c", "7 2@c7"[::-1]])


@spoils("truncated", SPOILS)
def _(invented: Invented) -> None:
    said_by_all(invented, [" 0@c7"])


@spoils("changed text", SPOILS)
def _(invented: Invented) -> None:
    one = saw(invented)[1]
    see(invented, one, text=one.facts["text"] + "!")


@spoils("changed text", SPOILS)
def _(invented: Invented) -> None:
    """Its last chunk is not shown, only that it ended."""
    seen = saw(invented)
    invented.history.remove(seen[-1])
    see(invented, seen[-2], end="finish")


@spoils("changed end", SPOILS)
def _(invented: Invented) -> None:
    restate(invented, str(saw(invented)[0].facts["answer"]), kind="fail")


@spoils("unstable reading", SPOILS)
def _(invented: Invented) -> None:
    seen = [one for one in invented.history if one.kind is Kind.SAW and one.facts["again"]]
    see(invented, invented.random.choice(seen), text="what else")


@spoils("two ends", SPOILS)
def _(invented: Invented) -> None:
    add(invented, event(invented, "ended"))


@spoils("unended", SPOILS)
def _(invented: Invented) -> None:
    forget(invented, event(invented, "ended"))


@spoils("bad end", SPOILS)
def _(invented: Invented) -> None:
    see(invented, saw(invented)[-1], end="fail")


@spoils("unseen", SPOILS)
def _(invented: Invented) -> None:
    invented.history.remove(saw(invented)[-1])


@spoils("unseen for too long", SPOILS)
def _(invented: Invented) -> None:
    end = saw(invented)[-1]
    swap(invented.history, end, replace(end, at=end.at + LATE_SECONDS))
