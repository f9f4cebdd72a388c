"""Where the time to the first token goes: the stages of traces, cut along the critical path.

A stage lasts from the moment before it to its own, all of them read from the spans of one trace
and the client's clock. What a later moment overtakes (the gateway has a frame before the recorder
has heard that Redis has it) takes no time of its own.
"""

import secrets
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench import measure
from tests.bench.client import Target, connect
from tests.fixtures.collector import Collector, Seen
from tests.fixtures.thalweg import RunningThalweg

AGREE_SHARE = 0.05
"""The stages must sum to what the median client waited within this."""
WHOLE_SHARE_MIN = 0.9
"""Of the traces that must have every moment; others (a claim was taken over) are left out."""
COLLECTED_SECONDS_MAX = 120
NS = 1_000_000_000

Spans = Mapping[str, Seen]


@dataclass(frozen=True)
class Stage:
    """`name`: who is at work; `until`: its last moment, of the trace's spans."""

    name: str
    what: str
    until: Callable[[Spans], int]


STAGES = (
    Stage("gateway", "the post is received", lambda s: s["request"].began_ns),
    Stage("gateway", "checked and admitted", lambda s: s["commit command"].began_ns),
    Stage("Postgres", "committed", lambda s: s["commit command"].ended_ns),
    Stage("relay", "read from the event store", lambda s: s["send"].began_ns),
    Stage("Kafka", "work is with its worker", lambda s: s["receive request"].began_ns),
    Stage("worker", "transcript loaded", lambda s: s["load transcript"].ended_ns),
    Stage("engine", "first token said, claim read back", lambda s: spoken(s)),
    Stage("worker", "first text sent", lambda s: s["first text"].began_ns),
    Stage("Kafka", "read back by the recorder", lambda s: s["read back"].ended_ns),
    Stage("Redis", "in the live stream", lambda s: s["write live stream"].ended_ns),
    Stage("gateway", "first frame written", lambda s: s["first frame"].ended_ns),
)
CLIENT = "the client has it"


@dataclass(frozen=True)
class Staged:
    """The median answer's stages, in seconds; `client` is the median of what clients waited."""

    stages: Sequence[tuple[str, str, float]]
    """Who, what, seconds; the last one is the way to the client."""
    client: float
    traces: int

    @property
    def summed(self) -> float:
        return sum(seconds for _, _, seconds in self.stages)

    @property
    def agree(self) -> bool:
        return abs(self.summed - self.client) <= AGREE_SHARE * self.client


def spoken(spans: Spans) -> int:
    """The first token waits for the claim, and the other way round."""
    return max(spans["first token"].ended_ns, spans["claim answer"].ended_ns)


async def stages(thalweg: RunningThalweg, collector: Collector, *, requests: int) -> Staged:
    """Asks one after the other, at 20 ms a token, each in a trace of its own."""
    content = f"tokens={measure.TOKENS_AT_20_MS} delay_ms=20"
    target = Target(thalweg.port, thalweg.api_key)
    connection = await connect(thalweg.port)
    clients: dict[str, tuple[int, int]] = {}
    for _ in range(requests):
        trace = secrets.token_hex(16)
        parent = f"traceparent: 00-{trace}-{secrets.token_hex(8)}-01\r\n"
        request = target.request(content, stream=True, headers=parent)
        sent = time.time_ns()
        answer = measure.check(await connection.ask(request), measure.TOKENS_AT_20_MS)
        clients[trace] = (sent, sent + round(answer.first_token_seconds * NS))
    connection.close()
    await measure.until(
        lambda: (
            len(usable(collector, clients)) == len(clients)
            or time.time_ns() - sent > COLLECTED_SECONDS_MAX * NS
        ),
        seconds_max=2 * COLLECTED_SECONDS_MAX,
    )
    found = usable(collector, clients)
    if len(found) < WHOLE_SHARE_MIN * requests:
        raise measure.WrongAnswer(f"only {len(found)} of {requests} traces are whole")
    cut = middle([durations(spans, *clients[trace]) for trace, spans in found.items()])
    means = [statistics.fmean(column) for column in zip(*cut, strict=True)]
    who = [(one.name, one.what) for one in STAGES] + [("gateway", CLIENT)]
    return Staged(
        [(*names, seconds) for names, seconds in zip(who, means, strict=True)],
        statistics.median((until - since) / NS for since, until in clients.values()),
        len(found),
    )


def middle(cut: Sequence[list[float]]) -> Sequence[list[float]]:
    """The fifth of the answers around the median: stages of one kind of answer can be summed."""
    ordered = sorted(cut, key=sum)
    aside = 2 * len(ordered) // 5
    return ordered[aside : len(ordered) - aside]


def usable(collector: Collector, clients: Mapping[str, tuple[int, int]]) -> dict[str, Spans]:
    """The traces that have every moment."""
    traces = collector.traces()
    found = {}
    for trace in clients:
        spans = named(traces.get(trace, []))
        try:
            for stage in STAGES:
                stage.until(spans)
        except KeyError:
            continue
        found[trace] = spans
    return found


def named(spans: Sequence[Seen]) -> Spans:
    """The first of each name; the request's and the sending's by what they are."""
    found: dict[str, Seen] = {}
    for span in sorted(spans, key=lambda one: one.began_ns):
        name = span.name
        if name.startswith("POST "):
            name = "request"
        elif name.startswith("send ") and ".answers." in name:
            name = "send"
        found.setdefault(name, span)
    return found


def durations(spans: Spans, since_ns: int, until_ns: int) -> list[float]:
    """Seconds of each stage and of the way to the client; they sum to what the client waited."""
    moments = [*(stage.until(spans) for stage in STAGES), until_ns]
    for place in reversed(range(len(STAGES))):
        moments[place] = min(moments[place], moments[place + 1])
    found, last = [], since_ns
    for moment in moments:
        found.append(max(0, moment - last) / NS)
        last = max(last, moment)
    return found
