"""The checker finds nothing in what a faultless installation does, and each way to spoil that by
its own name: a check that cannot fail proves nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.case import USUAL_REFUSALS
from tests.faults.checker import Rules, check
from tests.faults.history import Happening, Kind
from tests.faults.invented import Invented, invent
from tests.faults.stored import Kept, Logged

RULES = Rules(USUAL_REFUSALS)
EXAMPLES = 8
Spoil = Callable[[Invented], None]
SPOILS: list[tuple[str, Spoil]] = []


def names(invented: Invented, rules: Rules = RULES) -> set[str]:
    return {one.name for one in check(invented.history, invented.stored, rules)}


@given(st.integers(0, 2**32))
@settings(max_examples=EXAMPLES, deadline=None)
def test_what_a_faultless_installation_does_is_found_good(seed: int) -> None:
    invented = invent(seed)
    assert check(invented.history, invented.stored, RULES) == []


def spoils(anomaly: str) -> Callable[[Spoil], Spoil]:
    def keep(spoil: Spoil) -> Spoil:
        SPOILS.append((anomaly, spoil))
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


@spoils("lost write")
def _(invented: Invented) -> None:
    forget(invented, accepted(invented, "renamed"))


@spoils("duplicate write")
def _(invented: Invented) -> None:
    add(invented, event(invented, "renamed"))


@spoils("torn write")
def _(invented: Invented) -> None:
    forget(invented, event(invented, "posted"))


@spoils("resurrection")
def _(invented: Invented) -> None:
    refuse(invented, event(invented, "renamed").command.removeprefix("key:"))


@spoils("aborted read")
def _(invented: Invented) -> None:
    refuse(invented, accepted(invented, "renamed").command.removeprefix("key:"))


@spoils("changed write")
def _(invented: Invented) -> None:
    posted = event(invented, "posted")
    swap(invented.events, posted, replace(posted, facts={"content": "other words"}))


@spoils("wrong receipt")
def _(invented: Invented) -> None:
    renamed = accepted(invented, "renamed")
    for one in list(invented.history):
        if "body" in one.facts and one.op in ops_of(invented, renamed.command[4:]):
            body = one.facts["body"].replace(f":{renamed.position}", ":99")
            see(invented, one, body=body)


@spoils("lost key")
def _(invented: Invented) -> None:
    del invented.commands[event(invented, "posted").command]


@spoils("unstable outcome")
def _(invented: Invented) -> None:
    ok = next(one for one in invented.history if one.what == "post" and one.kind is Kind.OK)
    op = invented.operation(1, "post", **invented.history[invented.history.index(ok) - 1].facts)
    body = ok.facts["body"].replace("{", "{ ")
    invented.happen(1, op, Kind.OK, "post", body=body)


@spoils("phantom")
def _(invented: Invented) -> None:
    add(invented, event(invented, "renamed"), command="key:nobody")


@spoils("refused")
def _(invented: Invented) -> None:
    op = invented.operation(1, "start", key="one more")
    invented.happen(1, op, Kind.UNKNOWN, "start", code="internal_error")


@spoils("accepted nonsense")
def _(invented: Invented) -> None:
    op = invented.operation(1, "stale", key="stale", content="x", tokens=1, conversation="")
    invented.happen(1, op, Kind.OK, "stale", body='{"receipt": "x:1", "answer": "x"}')


@spoils("sparse positions")
def _(invented: Invented) -> None:
    last = max((one for one in invented.events), key=lambda one: one.position)
    move(invented, last, last.position + 1)


@spoils("lost in the log")
def _(invented: Invented) -> None:
    lost = event(invented, "ended")
    invented.log[:] = [one for one in invented.log if one.id != lost.id]


@spoils("reordered log")
def _(invented: Invented) -> None:
    late = event(invented, "asked")
    records = [one for one in invented.log if one.id == late.id]
    invented.log[:] = [one for one in invented.log if one.id != late.id] + records


@spoils("forked log")
def _(invented: Invented) -> None:
    record = invented.random.choice(invented.log)
    swap(invented.log, record, replace(record, id=invented.new_id()))


@spoils("scattered log")
def _(invented: Invented) -> None:
    record = invented.random.choice([one for one in invented.log if one.position > 1])
    swap(invented.log, record, replace(record, partition=record.partition + 1))


@spoils("phantom in the log")
def _(invented: Invented) -> None:
    stream = invented.new_id()
    invented.log.append(Logged(invented.new_id(), stream, 1, 0))
    invented.unheard_of.add(stream)


@spoils("gap")
def _(invented: Invented) -> None:
    seen = saw(invented)
    op = seen[0].op
    for one in seen[1:]:  # all in one connection
        swap(invented.history, one, replace(one, op=op))
    invented.history.remove(replace(seen[1], op=op))


@spoils("skipped poll")
def _(invented: Invented) -> None:
    seen = saw(invented)
    op = invented.operation(
        seen[0].client, "stream", answer=seen[0].facts["answer"], after=0, again=False
    )
    for one in seen[2:]:
        invented.history.remove(one)
        invented.history.append(replace(one, op=op))
    invented.history.remove(seen[1])


@spoils("duplicate")
def _(invented: Invented) -> None:
    one = saw(invented)[1]
    swap(invented.history, one, one, one)


@spoils("reorder")
def _(invented: Invented) -> None:
    one, two = saw(invented)[1:3]
    see(invented, one, index=two.facts["index"], text=two.facts["text"])
    see(invented, two, index=one.facts["index"], text=one.facts["text"])


@spoils("lost token")
def _(invented: Invented) -> None:
    said_by_all(invented, [" 0@c7", " 1@c7", " 3@c7 4@c7"])


@spoils("repeated token")
def _(invented: Invented) -> None:
    said_by_all(invented, [" 0@c7", " 1@c7", " 1@c7 2@c7"])


@spoils("splice")
def _(invented: Invented) -> None:
    """A call that was replaced speaks once more, where the numbers fit."""
    said_by_all(invented, [" 0@c7", " 1@c8", " 2@c7"])


@spoils("splice")
def _(invented: Invented) -> None:
    """Another call goes on, and nothing says that there is a seam."""
    said_by_all(invented, [" 0@c7", " 1@c7", " 2@c8"])


@spoils("garbled")
def _(invented: Invented) -> None:
    said_by_all(invented, [" 0@c7", " 1@c", "7 2@c7"[::-1]])


@spoils("truncated")
def _(invented: Invented) -> None:
    said_by_all(invented, [" 0@c7"])


@spoils("changed text")
def _(invented: Invented) -> None:
    one = saw(invented)[1]
    see(invented, one, text=one.facts["text"] + "!")


@spoils("changed text")
def _(invented: Invented) -> None:
    """Its last chunk is not shown, only that it ended."""
    seen = saw(invented)
    invented.history.remove(seen[-1])
    see(invented, seen[-2], end="finish")


@spoils("changed end")
def _(invented: Invented) -> None:
    restate(invented, str(saw(invented)[0].facts["answer"]), kind="fail")


@spoils("unstable reading")
def _(invented: Invented) -> None:
    seen = [one for one in invented.history if one.kind is Kind.SAW and one.facts["again"]]
    see(invented, invented.random.choice(seen), text="what else")


@spoils("two ends")
def _(invented: Invented) -> None:
    add(invented, event(invented, "ended"))


@spoils("unended")
def _(invented: Invented) -> None:
    forget(invented, event(invented, "ended"))


@spoils("bad end")
def _(invented: Invented) -> None:
    see(invented, saw(invented)[-1], end="fail")


@spoils("unseen")
def _(invented: Invented) -> None:
    invented.history.remove(saw(invented)[-1])


@spoils("unseen for too long")
def _(invented: Invented) -> None:
    end = saw(invented)[-1]
    swap(invented.history, end, replace(end, at=end.at + RULES.seen_seconds_max + 1_000))


def read_of(invented: Invented) -> Happening:
    reads = [one for one in invented.history if one.what == "read" and one.kind is Kind.OK]
    return invented.random.choice(reads)


@spoils("stale read")
def _(invented: Invented) -> None:
    one = read_of(invented)
    see(invented, one, position=one.facts["position"] - 1)


@spoils("wrong read")
def _(invented: Invented) -> None:
    see(invented, read_of(invented), title="of somebody else")


@spoils("parked")
def _(invented: Invented) -> None:
    see(invented, read_of(invented), parked=True)


@pytest.mark.parametrize(("anomaly", "spoil"), SPOILS, ids=[name for name, _ in SPOILS])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=EXAMPLES, deadline=None)
def test_it_finds(anomaly: str, spoil: Spoil, seed: int) -> None:
    invented = invent(seed, clients=6)
    spoil(invented)
    assert anomaly in names(invented)


def test_every_anomaly_of_the_catalogue_can_be_found() -> None:
    from tests.faults.checker import ANOMALIES

    assert {name for name, _ in SPOILS} == set(ANOMALIES)
