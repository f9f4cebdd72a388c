"""The few of TGI's metrics that a scheduler looks at, in Prometheus' text form."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

HISTOGRAMS = (
    "tgi_request_duration",
    "tgi_request_queue_duration",
    "tgi_request_inference_duration",
    "tgi_request_mean_time_per_token_duration",
    "tgi_request_generated_tokens",
    "tgi_request_input_length",
    "tgi_request_max_new_tokens",
)
DURATION_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
TOKEN_BUCKETS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)


@dataclass
class Histogram:
    """Counts of values at or below each bound."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0
    number: int = 0

    def observe(self, value: float) -> None:
        """Adds one value."""
        self.counts = self.counts or [0] * len(self.bounds)
        for index, bound in enumerate(self.bounds):
            self.counts[index] += value <= bound
        self.total += value
        self.number += 1

    def lines(self, name: str) -> list[str]:
        """In the text form."""
        counts = self.counts or [0] * len(self.bounds)
        pairs = zip(self.bounds, counts, strict=True)
        return [
            f"# TYPE {name} histogram",
            *(f'{name}_bucket{{le="{bound:g}"}} {count}' for bound, count in pairs),
            f'{name}_bucket{{le="+Inf"}} {self.number}',
            f"{name}_sum {self.total!r}",
            f"{name}_count {self.number}",
            "",
        ]


class Metrics:
    """What has been counted since the start."""

    def __init__(self) -> None:
        self.requests = 0
        self.successes = 0
        self.failures: Counter[str] = Counter()
        self.queued = 0
        self.running = 0
        self.running_tokens_max = 0
        self._histograms = {
            name: Histogram(DURATION_BUCKETS if name.endswith("duration") else TOKEN_BUCKETS)
            for name in HISTOGRAMS
        }

    def observe(self, **values: float) -> None:
        """Adds to histograms, named without `tgi_request_`."""
        for name, value in values.items():
            self._histograms[f"tgi_request_{name}"].observe(value)

    def text(self) -> str:
        """Everything; empty before the first request, as TGI's is."""
        if not self.requests:
            return ""
        lines = [
            *single("tgi_request_count", "counter", self.requests),
            *single("tgi_request_success", "counter", self.successes),
            *single("tgi_queue_size", "gauge", self.queued),
            *single("tgi_batch_current_size", "gauge", self.running),
            *single("tgi_batch_current_max_tokens", "gauge", self.running_tokens_max),
        ]
        if self.failures:
            lines.append("# TYPE tgi_request_failure counter")
            pairs = sorted(self.failures.items())
            lines += [f'tgi_request_failure{{err="{name}"}} {count}' for name, count in pairs]
            lines.append("")
        for name, histogram in self._histograms.items():
            lines += histogram.lines(name)
        return "\n".join(lines) + "\n"


def single(name: str, kind: str, value: int) -> list[str]:
    """One number in the text form."""
    return [f"# TYPE {name} {kind}", f"{name} {value}", ""]
