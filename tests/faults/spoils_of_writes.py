"""What is stored, logged and read is spoilt."""

from dataclasses import replace

from tests.faults.history import Happening, Kind
from tests.faults.invented import Invented
from tests.faults.spoils import (
    Named,
    accepted,
    add,
    event,
    forget,
    move,
    ops_of,
    refuse,
    see,
    spoils,
    swap,
)
from tests.faults.stored import Logged

SPOILS: Named = []


@spoils("lost write", SPOILS)
def _(invented: Invented) -> None:
    forget(invented, accepted(invented, "renamed"))


@spoils("duplicate write", SPOILS)
def _(invented: Invented) -> None:
    add(invented, event(invented, "renamed"))


@spoils("torn write", SPOILS)
def _(invented: Invented) -> None:
    forget(invented, event(invented, "posted"))


@spoils("resurrection", SPOILS)
def _(invented: Invented) -> None:
    refuse(invented, event(invented, "renamed").command.removeprefix("key:"))


@spoils("aborted read", SPOILS)
def _(invented: Invented) -> None:
    refuse(invented, accepted(invented, "renamed").command.removeprefix("key:"))


@spoils("changed write", SPOILS)
def _(invented: Invented) -> None:
    posted = event(invented, "posted")
    swap(invented.events, posted, replace(posted, facts={"content": "other words"}))


@spoils("wrong receipt", SPOILS)
def _(invented: Invented) -> None:
    renamed = accepted(invented, "renamed")
    for one in list(invented.history):
        if "body" in one.facts and one.op in ops_of(invented, renamed.command[4:]):
            body = one.facts["body"].replace(f":{renamed.position}", ":99")
            see(invented, one, body=body)


@spoils("lost key", SPOILS)
def _(invented: Invented) -> None:
    del invented.commands[event(invented, "posted").command]


@spoils("unstable outcome", SPOILS)
def _(invented: Invented) -> None:
    ok = next(one for one in invented.history if one.what == "post" and one.kind is Kind.OK)
    op = invented.operation(1, "post", **invented.history[invented.history.index(ok) - 1].facts)
    body = ok.facts["body"].replace("{", "{ ")
    invented.happen(1, op, Kind.OK, "post", body=body)


@spoils("phantom", SPOILS)
def _(invented: Invented) -> None:
    add(invented, event(invented, "renamed"), command="key:nobody")


@spoils("refused", SPOILS)
def _(invented: Invented) -> None:
    op = invented.operation(1, "start", key="one more")
    invented.happen(1, op, Kind.UNKNOWN, "start", code="internal_error")


@spoils("accepted nonsense", SPOILS)
def _(invented: Invented) -> None:
    op = invented.operation(1, "stale", key="stale", content="x", tokens=1, conversation="")
    invented.happen(1, op, Kind.OK, "stale", body='{"receipt": "x:1", "answer": "x"}')


@spoils("sparse positions", SPOILS)
def _(invented: Invented) -> None:
    last = max((one for one in invented.events), key=lambda one: one.position)
    move(invented, last, last.position + 1)


@spoils("lost in the log", SPOILS)
def _(invented: Invented) -> None:
    lost = event(invented, "ended")
    invented.log[:] = [one for one in invented.log if one.id != lost.id]


@spoils("reordered log", SPOILS)
def _(invented: Invented) -> None:
    late = event(invented, "asked")
    records = [one for one in invented.log if one.id == late.id]
    invented.log[:] = [one for one in invented.log if one.id != late.id] + records


@spoils("forked log", SPOILS)
def _(invented: Invented) -> None:
    record = invented.random.choice(invented.log)
    swap(invented.log, record, replace(record, id=invented.new_id()))


@spoils("scattered log", SPOILS)
def _(invented: Invented) -> None:
    record = invented.random.choice([one for one in invented.log if one.position > 1])
    swap(invented.log, record, replace(record, partition=record.partition + 1))


@spoils("phantom in the log", SPOILS)
def _(invented: Invented) -> None:
    stream = invented.new_id()
    invented.log.append(Logged(invented.new_id(), stream, 1, 0))
    invented.unheard_of.add(stream)


@spoils("garbage in the log", SPOILS)
def _(invented: Invented) -> None:
    invented.garbage += 1


def read_of(invented: Invented) -> Happening:
    reads = [one for one in invented.history if one.what == "read" and one.kind is Kind.OK]
    return invented.random.choice(reads)


@spoils("stale read", SPOILS)
def _(invented: Invented) -> None:
    one = read_of(invented)
    see(invented, one, position=one.facts["position"] - 1)


@spoils("wrong read", SPOILS)
def _(invented: Invented) -> None:
    see(invented, read_of(invented), title="of somebody else")


@spoils("parked", SPOILS)
def _(invented: Invented) -> None:
    see(invented, read_of(invented), parked=True)
