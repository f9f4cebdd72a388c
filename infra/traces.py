"""Sends spans to an OpenTelemetry collector (OTLP over HTTP); imported only where one is named.

Whoever tells of a span only puts it into a bounded queue; a thread of the SDK gathers, encodes and
sends. With a collector that is slow or away spans are dropped, nobody waits, and the log says so
once in a while. What OTEL_EXPORTER_OTLP_HEADERS, OTEL_RESOURCE_ATTRIBUTES and the like
say is heeded.
"""

import logging
import threading
import time
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from events import trace
from events.trace import Kind, Span

log = logging.getLogger("thalweg.traces")

PATH = "/v1/traces"
QUEUED_SPANS_MAX = 8_192
"""Some 600 turns, about 10 MB: what comes while a request of a busy collector lasts."""
SPANS_PER_REQUEST_MAX = 512
GATHER_SECONDS = 1.0
"""Between requests; what a killed process had not sent yet is lost."""
REQUEST_SECONDS_MAX = 5.0
"""With the repeats of a request that failed; then its spans are dropped."""
FLUSH_SECONDS_MAX = 2.0
"""A process that stops waits this long for its last spans."""
WARNING_SECONDS = 60.0
"""Between two lines about a collector that takes nothing."""

_KINDS = {kind: SpanKind[kind.name] for kind in Kind}
_SCOPE = InstrumentationScope("thalweg")


class Traces:
    """Exports what is told in this process. `close` it in the end."""

    def __init__(self, endpoint: str, *, role: str, ratio: float = 1.0) -> None:
        """`endpoint` is the collector's base address; `role` becomes the service's name."""
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # a line for each lost span
        self._resource = Resource.create(
            {"service.name": f"thalweg-{role}", "service.namespace": "thalweg"}
        )
        exporter = _Told(OTLPSpanExporter(f"{endpoint}{PATH}", timeout=REQUEST_SECONDS_MAX))
        self._processor = BatchSpanProcessor(
            exporter,
            max_queue_size=QUEUED_SPANS_MAX,
            max_export_batch_size=SPANS_PER_REQUEST_MAX,
            schedule_delay_millis=GATHER_SECONDS * 1_000,
        )
        trace.export_to(self._take, ratio=ratio)

    def _take(self, span: Span) -> None:
        self._processor.on_end(readable(span, self._resource))

    def close(self) -> None:
        """Sends what is queued, within a bound: a collector that hangs holds no stop up."""
        trace.export_to(None)
        # The SDK's own shutdown takes no bound, and waits 30 s for a request under way.
        flushing = threading.Thread(target=self._processor.shutdown, daemon=True)
        flushing.start()
        flushing.join(FLUSH_SECONDS_MAX)
        if flushing.is_alive():
            log.warning("the last spans could not be sent in time")


def readable(span: Span, resource: Resource) -> ReadableSpan:
    """The SDK's form. No tracer has begun it: a span is told when it is over, with its own id."""
    trace_id, span_id, flags = span.traceparent.split("-")[1:]
    sampled = TraceFlags(int(flags, 16))
    parent = None
    if span.parent is not None:
        parent = SpanContext(int(trace_id, 16), int(span.parent, 16), True, sampled)
    return ReadableSpan(
        span.name,
        SpanContext(int(trace_id, 16), int(span_id, 16), False, sampled),
        parent,
        resource,
        attributes=span.attributes,
        kind=_KINDS[span.kind],
        status=Status(StatusCode.ERROR, span.failed) if span.failed else Status(),
        start_time=span.began_ns,
        end_time=span.ended_ns,
        instrumentation_scope=_SCOPE,
    )


class _Told(SpanExporter):
    """An exporter whose failures are counted, and told once in a while."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._lost = 0
        self._told_at = float("-inf")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._lost += len(spans)
            now = time.monotonic()
            if now - self._told_at >= WARNING_SECONDS:
                log.warning("spans are lost: the collector takes none", extra={"lost": self._lost})
                self._told_at, self._lost = now, 0
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
