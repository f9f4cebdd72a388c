"""Spans reach a collector, and one that is away, or hangs, costs nobody anything."""

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from events import trace
from infra import traces
from infra.servers.ports import free_port
from infra.settings import Settings, SettingsRefused
from infra.traces import FLUSH_SECONDS_MAX, QUEUED_SPANS_MAX, Traces
from tests.fixtures.collector import Collector, Seen, problems_of
from tests.fixtures.processes import ROOT, wait_for

REQUEST = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TELL_SECONDS_MAX = 0.001
"""Of one span, on the average: it goes into a queue."""
SLACK_SECONDS = 5.0
"""For a machine under load; the exporter by itself would wait twice as long, and longer."""

SENDING_SECONDS_MAX = 30
"""That a thread goes on which a stop did not wait for."""


@pytest.fixture(autouse=True)
def _threads_end_with_their_test() -> Iterator[None]:
    """One that sends on draws from the random numbers of the tests after this."""
    before = set(threading.enumerate())
    yield
    wait_for(
        lambda: set(threading.enumerate()) <= before,
        "the end of the threads that send",
        seconds_max=SENDING_SECONDS_MAX,
    )


def test_a_span_arrives_as_it_was_told() -> None:
    with Collector() as collector:
        sending = Traces(collector.endpoint, role="gateway")
        trace.stage(
            "first token",
            REQUEST,
            1_000,
            ended_ns=5_000,
            kind=trace.Kind.CLIENT,
            attributes={"thalweg.call": 1, "gen_ai.request.model": "m", "reasons": ("a", "b")},
        )
        sending.close()
    (seen,) = collector.spans
    assert (seen.trace, seen.parent) == (REQUEST.split("-")[1], REQUEST.split("-")[2])
    assert (seen.name, seen.service) == ("first token", "thalweg-gateway")
    assert (seen.began_ns, seen.ended_ns) == (1_000, 5_000)
    assert seen.what == {"thalweg.call": 1, "gen_ai.request.model": "m", "reasons": ("a", "b")}


def test_spans_are_sent_while_the_process_runs() -> None:
    with Collector() as collector:
        sending = Traces(collector.endpoint, role="relay")
        try:
            trace.stage("a stage", REQUEST, 1)
            wait_for(lambda: collector.spans, "the span")
        finally:
            sending.close()


def test_a_collector_that_is_away_is_told_of_once_and_holds_nobody_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "GATHER_SECONDS", 0.01)
    monkeypatch.setattr(traces, "REQUEST_SECONDS_MAX", 0.1)
    sending = Traces(f"http://127.0.0.1:{free_port()}", role="answers")
    try:
        began = time.perf_counter()
        for _ in range(2 * QUEUED_SPANS_MAX):
            trace.stage("a stage", REQUEST, 1)
        seconds = time.perf_counter() - began
        lost = "spans are lost: the collector takes none"
        wait_for(lambda: lost in caplog.messages, "the line")
    finally:
        began_closing = time.perf_counter()
        sending.close()
    assert time.perf_counter() - began_closing < FLUSH_SECONDS_MAX + SLACK_SECONDS
    assert seconds / (2 * QUEUED_SPANS_MAX) < TELL_SECONDS_MAX
    assert caplog.messages.count(lost) == 1
    assert [one.name for one in caplog.records if one.name.startswith("opentelemetry")] == []


def test_a_collector_that_hangs_delays_a_stop_by_no_more_than_its_bound(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "REQUEST_SECONDS_MAX", FLUSH_SECONDS_MAX + 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sending = Traces(f"http://127.0.0.1:{silent.getsockname()[1]}", role="gateway")
        trace.stage("a stage", REQUEST, 1)
        began = time.perf_counter()
        with caplog.at_level(logging.WARNING, "thalweg.traces"):
            sending.close()
        assert FLUSH_SECONDS_MAX <= time.perf_counter() - began < FLUSH_SECONDS_MAX + SLACK_SECONDS
    assert "the last spans could not be sent in time" in caplog.messages
    assert not trace.is_told(REQUEST)


def test_without_an_endpoint_a_role_imports_no_exporter() -> None:
    """FastAPI and redis-py import the API and the metrics of what is installed, by themselves."""
    code = (
        "import importlib, sys, infra.wiring\n"
        "from infra.cli.run import AHEAD\n"
        "[importlib.import_module(one) for each in AHEAD.values() for one in each]\n"
        "ours = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'infra.traces')\n"
        "print([name for name in sys.modules if name.startswith(ours)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("endpoint", "accepted"),
    [
        ("http://collector:4318", "http://collector:4318"),
        ("https://collector.example/otlp/", "https://collector.example/otlp"),
        ("collector:4318", None),
        ("grpc://collector:4317", None),
        ("http://user:secret@collector:4318", None),
        ("http://collector:99999", None),
    ],
)
def test_an_endpoint_is_a_base_address(
    endpoint: str, accepted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THALWEG_OTLP_ENDPOINT", endpoint)
    if accepted is not None:
        assert Settings.load().otlp_endpoint == accepted
        return
    with pytest.raises(SettingsRefused, match="THALWEG_OTLP_ENDPOINT") as refused:
        Settings.load()
    assert "secret" not in str(refused.value)


# The judge ---------------------------------------------------------------------------------------

ROOT_SPAN = Seen("t", "a", "", "root", "s", 1, 9, ())
CHILD = replace(ROOT_SPAN, id="b", parent="a", name="child")
GRANDCHILD = replace(ROOT_SPAN, id="c", parent="b", name="grandchild")


def test_a_tree_is_connected_and_a_span_may_come_twice() -> None:
    assert problems_of([GRANDCHILD, CHILD, ROOT_SPAN, CHILD]) == []
    assert problems_of([CHILD, GRANDCHILD]) == [], "its root is in another system"


@pytest.mark.parametrize(
    ("spans", "problem"),
    [
        ([ROOT_SPAN, GRANDCHILD], "roots"),
        ([CHILD, replace(CHILD, id="d", name="brother")], "roots"),
        ([ROOT_SPAN, replace(CHILD, parent="c"), GRANDCHILD], "ancestors"),
        ([ROOT_SPAN, CHILD, replace(CHILD, name="other")], "two different spans"),
        ([ROOT_SPAN, replace(CHILD, ended_ns=0)], "ends before"),
    ],
)
def test_what_is_no_connected_tree_is_found_out(spans: list[Seen], problem: str) -> None:
    assert any(problem in one for one in problems_of(spans))
