"""The collector of traces takes a request without spans."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.request import Request, urlopen

from infra.checks.findings import ASK_SECONDS_MAX, Finding
from infra.settings import Settings

PATH = "/v1/traces"  # as infra/traces.py has it, which only exporting roles import


def collector(settings: Settings) -> Iterator[Finding]:
    """OTLP over HTTP: an empty request is a valid one."""
    address = f"{settings.otlp_endpoint}{PATH}"
    headers = {"Content-Type": "application/x-protobuf"}
    request = Request(address, data=b"", headers=headers, method="POST")  # noqa: S310
    try:
        with urlopen(request, timeout=ASK_SECONDS_MAX):  # noqa: S310
            yield Finding(f"the collector at {address} takes spans")
    except OSError as problem:
        todo = "Start it with OTLP over HTTP, or correct THALWEG_OTLP_ENDPOINT."
        yield Finding(f"the collector at {address}: {problem}", todo)
