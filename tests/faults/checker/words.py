"""What can be found, by name. The model is the catalogue of Jepsen's Kafka workload."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ANOMALIES: Final[Mapping[str, str]] = {
    # writes
    "lost write": "a command was accepted, and is not in the event store",
    "duplicate write": "a command's events are in the event store more than once",
    "torn write": "of a command's events only some are in the event store, or others",
    "resurrection": "a command was refused, and is in the event store",
    "accepted nonsense": "a command was accepted that had to be refused",
    "changed write": "what was stored is not what the client sent",
    "wrong receipt": "a receipt names another place than the command's last event has",
    "lost key": "a command was accepted, and its idempotency key is not kept beside it",
    "unstable outcome": "a repeated idempotency key got another answer",
    "phantom": "an event is in the event store that nobody asked for",
    "refused": "a client was told no, or nothing, with a code that the case does not allow",
    # streams of events
    "sparse positions": "the positions of a stream are not 1, 2, 3, ...",
    "lost in the log": "a stored event is not in Kafka",
    "reordered log": "in Kafka a stream goes on with what is not its next event",
    "forked log": "Kafka has another event at a position than the event store",
    "scattered log": "the events of one stream are in several partitions",
    "phantom in the log": "Kafka has an event of a stream that the event store never had",
    "garbage in the log": "Kafka has records that are no events, and that nobody put there",
    # what clients see of an answer
    "gap": "an index was left out within one connection",
    "skipped poll": "an index was left out where a client came again with its cursor",
    "duplicate": "an index was shown twice in a row, or again after a reconnection",
    "reorder": "an index was shown after a higher one",
    "lost token": "the text leaves out a token",
    "repeated token": "the text says a token twice",
    "splice": "another call of an engine speaks on without a seam, or one that was replaced",
    "garbled": "the text has something that no engine said",
    "truncated": "an answer finished with fewer tokens than it was to have",
    "changed text": "what was shown is not what is stored",
    "changed end": "an answer was shown to end in another way than is stored",
    "unstable reading": "an answer that was read again was another one",
    "two ends": "an answer has more than one end",
    "unended": "an accepted answer has no end in the event store",
    "bad end": "an answer ended in a way that the case does not allow",
    "unseen": "a client never saw the end of its answer",
    "unseen for too long": "a client saw the end of its answer later than the case allows",
    # reads
    "stale read": "a read with a receipt did not see the write",
    "aborted read": "a read saw a write that was refused",
    "wrong read": "a read saw what the stream never said at the position that it told",
    "parked": "a read was told that events could not be applied",
}


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One thing that broke a promise."""

    name: str
    where: str
    detail: str

    def __post_init__(self) -> None:
        if self.name not in ANOMALIES:
            raise ValueError(f"{self.name!r} is not in the catalogue")

    def __str__(self) -> str:
        return f"{self.name}: {self.where}: {self.detail}"


@dataclass(frozen=True)
class Rules:
    """What a case allows."""

    refusals: frozenset[str]
    ends: frozenset[str] = frozenset({"finish"})
    seen_seconds_max: float = 60
    own_key: str = "fault-"
    """Commands with such keys are the fault's own: streams that they begin are not clients'."""
    strangers: int = 0
    """So many streams were begun by other means, and none more."""
    garbage: int = 0
    """So many records that are no events were put into the domain topic, and none more."""
