"""What the recorder needs of the outside: a log, live streams, and where ends are recorded."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from events.answers import Entry
from events.conversations import AnswerEnded
from events.ids import AnswerId


class LiveUnavailable(Exception):
    """Live streams cannot be written now."""


class EndsUnavailable(Exception):
    """The event store does not answer now; ask again."""


@dataclass(frozen=True, slots=True)
class Run:
    """Entries for one answer's live stream, in order, from index `first` on."""

    answer: AnswerId
    first: int
    entries: Sequence[Entry]
    recorded: bool
    """The end is in the event store: the stream's expiry starts."""


@dataclass(frozen=True, slots=True)
class RunRefused:
    """This one stream can't be written: something else stands under its name, say."""

    reason: str


class LiveWriter(Protocol):
    """Implementation: infra/live_writer.py."""

    async def append(self, runs: Sequence[Run]) -> Sequence[int | RunRefused]:
        """For each run how many entries the stream has afterwards, or that it was refused alone.

        Less than the run's first index: entries before it are missing, and nothing was added. Of a
        run that the stream has in part only the rest is added. Raises LiveUnavailable if no stream
        can be written now.
        """

    async def keep_up(self, partitions: Iterable[int], recorder: str) -> frozenset[int]:
        """Tells gateways that these are kept up to date; returns those where no such sign stood.

        Raises LiveUnavailable.
        """


class Outcome(Enum):
    RECORDED = "recorded"
    UNKNOWN = "unknown"
    """There is no such answer in that conversation: it was never asked for."""
    REFUSED = "refused"
    """It will never be taken."""


class AnswerEnds(Protocol):
    """The event store. Implementation: infra/recorder.py."""

    async def record(self, ended: AnswerEnded) -> Outcome:
        """Records the end, once. Raises EndsUnavailable."""

    async def is_over(self, answer: AnswerId) -> bool:
        """Whether the end is recorded, or the answer unknown. Raises EndsUnavailable."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of `thalweg.tokens`."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int = 0
    """When the broker appended it."""


class TokenLog(Protocol):
    """The recorder's membership in its consumer group. Implementation: infra/recorder.py."""

    async def read(self, records_max: int, seconds_max: float) -> Sequence[LogRecord]:
        """What has come. Tells of assignments through the recorder's methods while it reads."""

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        """Stores the offsets of the next records to read; False if it could not be done now."""

    async def pause(self, partitions: Iterable[int]) -> None: ...

    async def resume(self, partitions: Iterable[int]) -> None: ...
