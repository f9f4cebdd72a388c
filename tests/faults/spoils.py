"""How an invented history is spoilt: each way under the name of the anomaly that it is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.faults.history import Happening, Kind
from tests.faults.invented import Invented
from tests.faults.stored import Kept, Logged

Spoil = Callable[[Invented], None]
Named = list[tuple[str, Spoil]]


def spoils(anomaly: str, known: Named) -> Callable[[Spoil], Spoil]:
    """Keeps the function under the anomaly's name."""

    def keep(spoil: Spoil) -> Spoil:
        known.append((anomaly, spoil))
        return spoil

    return keep


def event(invented: Invented, what: str) -> Kept:
    return invented.random.choice([one for one in invented.events if one.what == what])


def swap(listed: list[Any], old: object, *new: object) -> None:
    at = listed.index(old)
    listed[at : at + 1] = new


def forget(invented: Invented, one: Kept) -> None:
    """Neither store nor log has it; what stands behind it moves up."""
    invented.events.remove(one)
    invented.log[:] = [each for each in invented.log if each.id != one.id]
    for other in list(invented.events):
        if other.stream == one.stream and other.position > one.position:
            move(invented, other, other.position - 1)


def move(invented: Invented, one: Kept, position: int) -> None:
    swap(invented.events, one, replace(one, position=position))
    for each in list(invented.log):
        if each.id == one.id:
            swap(invented.log, each, replace(each, position=position))
    if invented.commands.get(one.command) == (one.stream, one.position):
        invented.commands[one.command] = (one.stream, position)


def add(invented: Invented, like: Kept, **changes: Any) -> None:
    """At the end of the stream, in the log too."""
    last = max(one.position for one in invented.events if one.stream == like.stream)
    new = replace(like, id=invented.new_id(), position=last + 1, **changes)
    where = next(one.partition for one in invented.log if one.stream == like.stream)
    invented.events.append(new)
    invented.log.append(Logged(new.id, new.stream, new.position, where))


def refuse(invented: Invented, key: str) -> None:
    for one in list(invented.history):
        if one.kind in (Kind.OK, Kind.UNKNOWN) and one.op in ops_of(invented, key):
            facts = {"code": "answer_in_progress"}
            swap(invented.history, one, replace(one, kind=Kind.FAIL, facts=facts))


def ops_of(invented: Invented, key: str) -> set[int]:
    return {one.op for one in invented.history if one.facts.get("key") == key}


def saw(invented: Invented, **facts: Any) -> list[Happening]:
    """What one client saw of one answer at the first reading: four chunks or more."""
    answers = {
        one.facts["answer"]: one
        for one in invented.history
        if one.kind is Kind.SAW and one.facts["index"] >= 3
    }
    chosen = invented.random.choice(sorted(answers))
    return [
        one
        for one in invented.history
        if one.kind is Kind.SAW and one.facts["answer"] == chosen and not one.facts["again"]
    ]


def see(invented: Invented, one: Happening, **changes: Any) -> None:
    swap(invented.history, one, replace(one, facts={**one.facts, **changes}))


def restate(invented: Invented, answer: str, **changes: Any) -> None:
    """The store says otherwise about an answer's end."""
    ended = next(
        one for one in invented.events if one.what == "ended" and one.facts["answer"] == answer
    )
    swap(invented.events, ended, replace(ended, facts={**ended.facts, **changes}))


def said_by_all(invented: Invented, chunks: list[str]) -> str:
    """Every reader and the store agree on another text of one answer: it is wrong all the same."""
    answer = str(saw(invented)[0].facts["answer"])
    for one in list(invented.history):
        if one.kind is Kind.SAW and one.facts["answer"] == answer:
            if one.facts["index"] < len(chunks):
                see(invented, one, text=chunks[one.facts["index"]])
            elif "end" not in one.facts:
                see(invented, one, text="")
            else:
                see(invented, one, text="")
    count = max(
        one.facts["index"]
        for one in invented.history
        if one.kind is Kind.SAW and one.facts["answer"] == answer
    )
    restate(invented, answer, chunks=[*chunks, *[""] * (count + 1)][: count + 1], seams=[])
    return answer


def accepted(invented: Invented, what: str) -> Kept:
    """An event of a command that a client knows to be done."""
    done = {
        f"key:{one.facts['key']}"
        for one in invented.history
        if one.kind is Kind.INVOKE
        and "key" in one.facts
        and any(other.op == one.op and other.kind is Kind.OK for other in invented.history)
    }
    events = [one for one in invented.events if one.what == what and one.command in done]
    return invented.random.choice(events)
