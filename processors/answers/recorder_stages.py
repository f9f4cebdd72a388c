"""The recorder's stages of an answer's first entry, told as spans of its turn."""

from datetime import UTC, datetime

from events import trace
from events.trace import Kind
from processors.answers.recorder_folds import Following
from processors.answers.recorder_ports import LogRecord, Run


def first_read(following: Following, record: LogRecord) -> None:
    """Told when the record, which counts, was the first that says something."""
    if following.said != 1 or following.first_read_ns is not None:
        return
    appended = datetime.fromtimestamp(record.timestamp_ms / 1_000, UTC)
    if not trace.is_told(following.traceparent, of=appended):
        return
    following.first_read_ns = trace.now_ns()
    trace.stage(
        "read back",
        trace.turn_of(following.traceparent),
        record.timestamp_ms * 1_000_000,
        ended_ns=following.first_read_ns,
        kind=Kind.CONSUMER,
        attributes={"thalweg.answer": str(following.answer)},
    )


def first_shown(following: Following, run: Run) -> None:
    """Told when the live stream has what the run holds."""
    if run.first > 0 or not following.first_read_ns:
        return
    began, following.first_read_ns = following.first_read_ns, 0
    trace.stage(
        "write live stream",
        trace.turn_of(following.traceparent),
        began,
        attributes={"thalweg.answer": str(following.answer)},
    )
