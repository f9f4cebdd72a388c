"""What clients saw of answers: every index once and in order, every token once and in order, one
call of an engine after the other, and in the end what is stored."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.checker.text import check_text, parsed, switches
from tests.faults.checker.view import Operation, View
from tests.faults.checker.words import Anomaly, Rules
from tests.faults.history import Happening, Kind
from tests.faults.stored import Kept


@dataclass
class Shown:
    """An answer on its client's screen, over all connections of the first reading."""

    asked: Operation
    accepted_at: float
    connections: list[Operation] = field(default_factory=list)
    again: list[Operation] = field(default_factory=list)

    @property
    def saw(self) -> list[Happening]:
        return [one for connection in self.connections for one in connection.saw]

    @property
    def chunks(self) -> list[str]:
        return [str(one.facts["text"]) for one in self.saw]

    @property
    def end(self) -> Happening | None:
        return next((one for one in self.saw if "end" in one.facts), None)


def shown_answers(view: View) -> Mapping[str, Shown]:
    """By answer: those that were accepted."""
    found: dict[str, Shown] = {}
    for attempts in view.attempts.values():
        accepted = [one for one in attempts if one.kind is Kind.OK and one.what == "post"]
        if accepted and accepted[0].outcome is not None:
            answer = str(accepted[0].body["answer"])
            found[answer] = Shown(accepted[0], accepted[0].outcome.at)
    for operation in view.operations:
        if operation.what == "stream":
            facts = operation.invoked.facts
            shown = found[facts["answer"]]
            (shown.again if facts["again"] else shown.connections).append(operation)
    return found


def check_answers(view: View, rules: Rules) -> Iterator[Anomaly]:
    cancelled = {
        attempts[0].invoked.facts["answer"]
        for attempts in view.attempts.values()
        if attempts[0].what == "cancel"
    }
    for answer, shown in shown_answers(view).items():
        allowed = rules.ends | ({"cancelled"} if answer in cancelled else set())
        yield from _indexes(answer, shown)
        yield from _end(answer, shown, allowed, view, rules)
        ends = view.ends[answer]
        if len(ends) == 1:
            stored = ends[0].facts
            yield from _as_stored(answer, shown, stored)
            yield from _tokens(answer, shown, stored)
    for answer, ends in _ends_of_all(view).items():
        if len(ends) > 1:
            yield Anomaly("two ends", answer, f"at positions {[one.position for one in ends]}")
        elif not ends:
            yield Anomaly("unended", answer, "it was asked for")


def _ends_of_all(view: View) -> Mapping[str, Sequence[Kept]]:
    asked = [event.facts["answer"] for event in view.stored.events if event.what == "asked"]
    return {answer: view.ends[answer] for answer in (*asked, *list(view.ends))}


def _indexes(answer: str, shown: Shown) -> Iterator[Anomaly]:
    last = -1
    for connection in shown.connections:
        for number, one in enumerate(connection.saw):
            index = int(one.facts["index"])
            told = f"{index} after {last}"
            if index > last + 1:
                yield Anomaly("gap" if number else "skipped poll", answer, told)
            elif index == last:
                yield Anomaly("duplicate", answer, told)
            elif index < last:
                yield Anomaly("reorder", answer, told)
            last = index


def _end(
    answer: str, shown: Shown, allowed: set[str] | frozenset[str], view: View, rules: Rules
) -> Iterator[Anomaly]:
    end, stored = shown.end, view.ends[answer]
    kinds = {one.facts["kind"] for one in stored}
    if end is None:
        yield Anomaly("unseen", answer, f"after {len(shown.saw)} chunks; stored {sorted(kinds)}")
        return
    if kinds and end.facts["end"] not in kinds:
        yield Anomaly("changed end", answer, f"shown {end.facts['end']}, stored {sorted(kinds)}")
    if end.facts["end"] not in allowed:
        reasons = [one.facts["reason"] for one in stored]
        yield Anomaly("bad end", answer, f"{end.facts['end']}, {reasons}")
    since = max(shown.accepted_at, view.healed_at)
    if end.at - since > rules.seen_seconds_max:
        yield Anomaly("unseen for too long", answer, f"{end.at - since:.1f} s")


def _as_stored(answer: str, shown: Shown, stored: Mapping[str, Any]) -> Iterator[Anomaly]:
    chunks = list(stored["chunks"])
    seen = [(one.facts["index"], one.facts["text"]) for one in shown.saw]
    wrong = [(i, text) for i, text in seen if i >= len(chunks) or chunks[i] != text]
    if wrong or (shown.end is not None and len(seen) < len(chunks)):
        where = wrong or f"{len(seen)} of {len(chunks)} chunks"
        yield Anomaly("changed text", answer, f"shown {where}, stored {chunks}")
    for reading in shown.again:
        begin = int(reading.invoked.facts["after"]) + 1
        texts = [one.facts["text"] for one in reading.saw]
        if texts != chunks[begin : begin + len(texts)]:
            yield Anomaly("unstable reading", answer, f"from {begin} {texts}, stored {chunks}")
    if shown.again and not any("end" in one.facts for one in shown.again[-1].saw):
        yield Anomaly("unstable reading", answer, "it was not read to its end")


def _tokens(answer: str, shown: Shown, stored: Mapping[str, Any]) -> Iterator[Anomaly]:
    """Of the client's text, and that another call speaks on only where a seam is recorded."""
    finished = shown.end is not None and shown.end.facts["end"] == "finish"
    wanted = int(shown.asked.invoked.facts["tokens"]) if finished else 0
    yield from check_text(answer, shown.chunks, wanted)
    seams = set(stored["seams"])
    for _, one in switches(parsed(shown.chunks) or ()):
        index = int(shown.saw[one.chunk].facts["index"])
        if index not in seams:
            told = f"at {one.number}, chunk {index}; seams {sorted(seams)}"
            yield Anomaly("splice", answer, told)
