"""A read with a receipt sees the write, and what it sees is what the stream says at the position
that the read told."""

from collections.abc import Iterator

from tests.faults.checker.view import Operation, View
from tests.faults.checker.words import Anomaly
from tests.faults.history import Kind


def check_reads(view: View) -> Iterator[Anomaly]:
    refused = {
        attempts[0].invoked.facts["title"]
        for attempts in view.attempts.values()
        if attempts[0].what == "rename" and {one.kind for one in attempts} == {Kind.FAIL}
    }
    for operation in view.operations:
        if operation.what == "read" and operation.kind is Kind.OK:
            yield from _of_read(view, operation, refused)


def _of_read(view: View, operation: Operation, refused: set[str]) -> Iterator[Anomaly]:
    assert operation.outcome is not None
    seen, asked = operation.outcome.facts, operation.invoked.facts
    stream, position = asked["conversation"], int(seen["position"])
    where = f"{stream} after {asked['after']}"
    if seen["parked"]:
        yield Anomaly("parked", where, str(seen))
    if position < int(asked["after"].rpartition(":")[2]):
        yield Anomaly("stale read", where, f"it is of position {position}")
    titles = [
        event.facts["title"]
        for event in view.by_stream[stream]
        if event.what in ("started", "renamed") and event.position <= position
    ]
    if seen["title"] in refused:
        yield Anomaly("aborted read", where, f"{seen['title']!r} was refused")
    elif not titles or seen["title"] != titles[-1]:
        wanted = titles[-1] if titles else "nothing"
        yield Anomaly("wrong read", where, f"at {position} {seen['title']!r}, stored {wanted!r}")
