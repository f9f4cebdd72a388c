"""Positions are dense, and Kafka says the same as the event store once repeats are dropped."""

from collections import defaultdict
from collections.abc import Iterator

from tests.faults.checker.view import View
from tests.faults.checker.words import Anomaly, Rules
from tests.faults.stored import Logged


def check_log(view: View, rules: Rules) -> Iterator[Anomaly]:
    logged: dict[str, list[Logged]] = defaultdict(list)
    for one in view.stored.log:
        logged[one.stream].append(one)
    for stream, events in list(view.by_stream.items()):
        if not events:
            continue
        positions = [event.position for event in events]
        if positions != list(range(1, len(positions) + 1)):
            yield Anomaly("sparse positions", stream, str(positions))
        ids = {event.position: event.id for event in events}
        yield from _of_stream(stream, ids, logged[stream])
    for stream in sorted(view.stored.unheard_of):
        yield Anomaly("phantom in the log", stream, "the event store has no such stream")
    if view.stored.garbage > rules.garbage:
        told = f"{rules.garbage} were put there"
        yield Anomaly("garbage in the log", f"{view.stored.garbage} records", told)


def _of_stream(stream: str, ids: dict[int, str], records: list[Logged]) -> Iterator[Anomaly]:
    last = 0
    for record in records:
        if ids.get(record.position) != record.id:
            stored = ids.get(record.position, "nothing")
            where = f"{stream}:{record.position}"
            yield Anomaly("forked log", where, f"logged {record.id}, stored {stored}")
        if record.position == last + 1:
            last = record.position
        elif record.position > last:
            yield Anomaly("reordered log", stream, f"{record.position} comes after {last}")
            last = record.position
    lost = sorted(set(ids) - {record.position for record in records})
    if lost:
        yield Anomaly("lost in the log", stream, f"positions {lost}")
    partitions = {record.partition for record in records}
    if len(partitions) > 1:
        yield Anomaly("scattered log", stream, f"partitions {sorted(partitions)}")
