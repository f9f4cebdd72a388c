"""Each accepted command is stored exactly once, each unknown one at most once, each refused one
never; and the same key gets the same answer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tests.faults.checker.view import KEY, Operation, View
from tests.faults.checker.words import Anomaly, Rules
from tests.faults.history import Kind
from tests.faults.stored import Kept

EVENTS: Final[Mapping[str, Sequence[str]]] = {
    "start": ("started",),
    "post": ("posted", "asked"),
    "stale": ("posted", "asked"),
    "rename": ("renamed",),
    "cancel": ("cancel",),
}
SENT: Final[Mapping[str, str]] = {"posted": "content", "renamed": "title", "cancel": "answer"}
"""The fact of an event that the client has sent."""
ALWAYS_ALLOWED = frozenset({"closed", "cancelled"})
"""A stream that ends in good order is no refusal, nor is what the harness gave up."""


def check_commands(view: View, rules: Rules) -> Iterator[Anomaly]:
    for key, attempts in view.attempts.items():
        events = view.by_command[KEY + key]
        what = attempts[0].what
        where = f"{what} {key}"
        accepted = [one for one in attempts if one.kind is Kind.OK]
        if what == "stale" and accepted:
            yield Anomaly("accepted nonsense", where, str(accepted[0].outcome))
        yield from _appended(view, where, attempts, events)
        yield from _kept(view, where, key, accepted, events)
        for event in events:
            name = SENT.get(event.what)
            sent = attempts[0].invoked.facts
            if name and event.facts[name] != sent[name]:
                yield Anomaly("changed write", where, f"sent {sent[name]!r}, stored {event.facts}")
    yield from _phantoms(view, rules.strangers)
    for operation in view.operations:
        expected = operation.what == "stale" and operation.code == "stale_head"
        allowed = rules.refusals | ALWAYS_ALLOWED
        if operation.kind is not Kind.OK and operation.code not in allowed and not expected:
            where = f"{operation.what} of client {operation.invoked.client}"
            at = f"at {operation.invoked.at:.2f} s"
            yield Anomaly("refused", where, f"{operation.code} {at}: {operation.invoked.facts}")


def _appended(
    view: View, where: str, attempts: Sequence[Operation], events: Sequence[Kept]
) -> Iterator[Anomaly]:
    wanted, found = list(EVENTS[attempts[0].what]), [event.what for event in events]
    kinds = {one.kind for one in attempts}
    told = f"stored {found}, wanted {wanted}"
    if not found:
        if Kind.OK in kinds and not _changed_nothing(view, attempts[0]):
            yield Anomaly("lost write", where, "it was accepted")
    elif kinds == {Kind.FAIL}:
        codes = sorted({one.code for one in attempts})
        yield Anomaly("resurrection", where, f"refused with {codes}, {told}")
    elif found != wanted:
        repeated = len(found) > len(wanted) and set(found) == set(wanted)
        yield Anomaly("duplicate write" if repeated else "torn write", where, told)


def _changed_nothing(view: View, attempt: Operation) -> bool:
    """A cancel of what has ended, or was cancelled already, adds no event."""
    if attempt.what != "cancel":
        return False
    answer, stream = attempt.invoked.facts["answer"], attempt.invoked.facts["conversation"]
    return any(
        event.what in ("ended", "cancel") and event.facts["answer"] == answer
        for event in view.by_stream[stream]
    )


def _kept(
    view: View, where: str, key: str, accepted: Sequence[Operation], events: Sequence[Kept]
) -> Iterator[Anomaly]:
    bodies = {one.outcome.facts["body"] for one in accepted if one.outcome is not None}
    if len(bodies) > 1:
        yield Anomaly("unstable outcome", where, " and ".join(sorted(bodies)))
    if accepted and KEY + key not in view.stored.commands:
        yield Anomaly("lost key", where, "no row says that this command is done")
    if accepted and events:
        last = events[-1]
        told = str(accepted[0].body["receipt"])
        if told != f"{last.stream}:{last.position}":
            yield Anomaly("wrong receipt", where, f"{told}, stored {last.stream}:{last.position}")


def _phantoms(view: View, strangers: int) -> Iterator[Anomaly]:
    asked = {event.facts["answer"] for event in view.stored.events if event.what == "asked"}
    streams = [stream for stream, events in view.by_stream.items() if events]
    unknown = {stream for stream in streams if view.is_a_strangers(stream)}
    if len(unknown) > strangers:
        yield Anomaly("phantom", f"{len(unknown)} streams", f"{strangers} had others begun")
    for stream in set(streams) - unknown:
        events = view.by_stream[stream]
        for event in events:
            where = f"{stream}:{event.position}"
            if event.what == "ended" and event.facts["answer"] in asked:
                continue
            key = event.command.removeprefix(KEY)
            if key not in view.attempts and not key.startswith(view.own_key):
                yield Anomaly("phantom", where, f"{event.what} by {event.command}")
