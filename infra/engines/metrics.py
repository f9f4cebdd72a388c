"""What engines say of their load on /metrics, in Prometheus' text form: the few numbers we use.

TGI's page is about 100 kB, most of it histograms, so nothing else is parsed. A series with several
labels (vLLM's data-parallel ranks) is added up.
"""

import math
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from infra.engines.http import HttpEngine
from processors.answers.engine import EngineFailed
from processors.answers.scheduling.seats import Figures

SECONDS_MAX = 1.0
"""Figures that take longer are old when they come."""

BYTES_MAX = 1_048_576
"""Of the page; TGI's has 96 kB after some hundred requests."""

COUNT_MAX = 1 << 53
"""No engine holds so much: a larger number is nonsense, and would be no exact float."""


NEW_LINE = ord("\n")
VALUE = re.compile(rb"(?:\{[^\n]*\})?[ \t]+(\S+)")


@dataclass(frozen=True, slots=True)
class Names:
    """The series that mean each figure, by engine; the first that is there counts."""

    queued: Sequence[str]
    running: Sequence[str]
    tokens: Sequence[str] = ()


TGI = Names(
    ("tgi_queue_size",),
    ("tgi_batch_current_size",),
    ("tgi_batch_current_max_tokens",),
)
OPENAI = Names(
    ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred"),
    ("vllm:num_requests_running", "sglang:num_running_reqs", "llamacpp:requests_processing"),
)


async def ask(http: HttpEngine, path: str, names: Names) -> Figures | None:
    """Implements `Engine.figures`. As old as the question: it may lie in the engine meanwhile."""
    asked_at = time.monotonic()
    try:
        reply = await http.call("GET", path, seconds_max=SECONDS_MAX, bytes_max=BYTES_MAX)
    except EngineFailed:
        return None
    return read(reply.body, names, asked_at) if reply.status == 200 else None


def read(page: bytes, names: Names, at: float) -> Figures:
    """What is there of it. TGI's page is empty before its first request."""
    return Figures(
        at,
        queued=_first(page, names.queued),
        running=_first(page, names.running),
        tokens=_first(page, names.tokens),
    )


def _first(page: bytes, names: Iterable[str]) -> int | None:
    return next((found for name in names if (found := _sum(page, name)) is not None), None)


def _sum(page: bytes, name: str) -> int | None:
    """Finds the lines first: a pattern tried at each place of the page takes 20 times as long."""
    wanted, total, at = name.encode(), None, -1
    while (at := page.find(wanted, at + 1)) >= 0:
        if (at == 0 or page[at - 1] == NEW_LINE) and (found := VALUE.match(page, at + len(wanted))):
            total = (total or 0) + _number(found[1])
    return total


def _number(text: bytes) -> int:
    """0 for what is no count: a figure that lies must not close an engine for ever."""
    try:
        value = float(text)
    except ValueError:
        return 0
    return int(value) if math.isfinite(value) and 0 <= value <= COUNT_MAX else 0
