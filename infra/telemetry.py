"""Structured logs: one JSON object a line, with the trace it belongs to; plain lines on a terminal.

Nothing that is secret or personal is logged: ids, counts and reasons only.
"""

import logging
import re
import sys
import time
from datetime import UTC, datetime
from typing import Literal

import orjson

from events import trace

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

CLIENTS = ("thalweg.kafka", "aiokafka")
"""Kafka's clients tell each failed try to connect: 80 lines a second while Kafka is away."""
REPEATS_SECONDS = 30.0
"""Between two of their lines that differ in numbers only: hours without Kafka fit into a log."""
SHAPES_MAX = 256
SHAPE_CHARACTERS_MAX = 120
_NUMBERS = re.compile(r"\d+")


class Repeats(logging.Filter):
    """Passes a line of Kafka's clients once in a while; `repeated` says how many were left out."""

    def __init__(self, seconds: float = REPEATS_SECONDS) -> None:
        super().__init__()
        self._seconds = seconds
        self._shapes: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(CLIENTS):
            return True
        message = record.getMessage()[:SHAPE_CHARACTERS_MAX]
        if record.name == "thalweg.kafka" and not message.startswith("FAIL ["):
            return True  # our own words
        shape, now = (record.name, _NUMBERS.sub("", message)), time.monotonic()
        shown_at, repeated = self._shapes.get(shape, (float("-inf"), 0))
        if now - shown_at < self._seconds:
            self._shapes[shape] = (shown_at, repeated + 1)
            return False
        if repeated:
            record.repeated = repeated
        if len(self._shapes) >= SHAPES_MAX:
            self._shapes.clear()
        self._shapes[shape] = (now, 0)
        return True


class JsonFormatter(logging.Formatter):
    """{"time", "level", "logger", "role", "message", "trace", "span", ...fields of `extra`}."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "role": self._role,
            "message": record.getMessage(),
        }
        ids = trace.ids_of(trace.current.get())
        if ids is not None:
            fields["trace"], fields["span"] = ids
        fields |= extra_fields(record)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(fields, default=str).decode()


class TerminalFormatter(logging.Formatter):
    """One readable line: time, level, role, message, then the fields."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        fields = " ".join(f"{name}={value}" for name, value in extra_fields(record).items())
        ids = trace.ids_of(trace.current.get())
        suffix = f" trace={ids[0]}" if ids else ""
        line = f"{at} {record.levelname.lower():7} {self._role:11} {record.getMessage()} {fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line.rstrip() + suffix


def extra_fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def configure_logging(
    role: str, *, level: str = "info", form: Literal["auto", "json", "text"] = "auto"
) -> None:
    """Sends everything that is logged in this process to standard error."""
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TerminalFormatter(role) if as_text else JsonFormatter(role))
    handler.addFilter(Repeats())
    # Nobody is shown the line of source, thread or process: to find them is a fifth of the work.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("aiokafka", "faust", "mode", "asyncio", "urllib3", "eventsourcing"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
