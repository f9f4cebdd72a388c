"""What engines say of their load, from recorded pages and from engines that break."""

import time
from collections.abc import AsyncIterator

import pytest

from infra.engines import metrics
from infra.engines.openai import OpenAiEngine
from infra.engines.tgi import TgiEngine
from processors.answers.scheduling.seats import Figures
from tests.contracts.engines import recordings
from tests.contracts.engines.replay import Bytes, ReplayServer

PAGE = recordings.read("05z_metrics_after")[0].received
EMPTY = recordings.read("04_metrics_before_any_request")[0].received
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
VLLM = b"""# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a b"} 3.0
vllm:num_requests_running{engine="1",model_name="a b"} 2.0
vllm:num_requests_running_total 99
vllm:num_requests_waiting{engine="0",model_name="a b"} 1.0
vllm:num_requests_waiting{engine="1",model_name="a b"} 0.0
"""


@pytest.fixture
async def server() -> AsyncIterator[ReplayServer]:
    async with ReplayServer() as opened:
        yield opened


async def of_tgi(server: ReplayServer, page: bytes) -> Figures | None:
    server.routes["/metrics"] = Bytes(page)
    engine = TgiEngine(server.url)
    try:
        return await engine.figures()
    finally:
        await engine.close()


async def test_a_recorded_page_is_read(server: ReplayServer) -> None:
    before = time.monotonic()
    busy = PAGE
    for name, value in (
        (b"tgi_queue_size", b"7"),
        (b"tgi_batch_current_size", b"3"),
        (b"tgi_batch_current_max_tokens", b"9"),
    ):
        assert busy.count(b"\n" + name + b" 0\n") == 1
        busy = busy.replace(b"\n" + name + b" 0\n", b"\n" + name + b" " + value + b"\n")
    figures = await of_tgi(server, busy)
    assert figures is not None
    assert (figures.queued, figures.running, figures.tokens) == (7, 3, 9)
    assert before <= figures.at <= time.monotonic()
    figures = await of_tgi(server, PAGE)
    assert figures is not None
    assert (figures.queued, figures.running, figures.tokens) == (0, 0, 0)


async def test_a_page_before_the_first_request_is_empty(server: ReplayServer) -> None:
    figures = await of_tgi(server, EMPTY)
    assert figures is not None
    assert (figures.queued, figures.running, figures.tokens) == (None, None, None)


@pytest.mark.parametrize(
    "page",
    [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
        b"nonsense\r\n\r\n",
        HEAD % 10 + b"short",
        HEAD % (metrics.BYTES_MAX + 1) + b"#" * (metrics.BYTES_MAX + 1),
        b"",
    ],
)
async def test_no_page_is_no_figures(server: ReplayServer, page: bytes) -> None:
    assert await of_tgi(server, page) is None


async def test_a_page_that_does_not_come_is_not_waited_for(
    server: ReplayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "SECONDS_MAX", 0.05)
    server.routes["/metrics"] = Bytes(HEAD % 10, closes=False)
    engine = TgiEngine(server.url)
    assert await engine.figures() is None
    await engine.close()


async def test_an_engine_that_is_away_has_no_figures() -> None:
    async with ReplayServer() as server:
        engine = TgiEngine(server.url)
    assert await engine.figures() is None
    await engine.close()


async def test_vllm_says_it_beside_its_api(server: ReplayServer) -> None:
    server.routes["/metrics"] = Bytes(HEAD % len(VLLM) + VLLM)
    engine = OpenAiEngine(server.url + "/v1")
    figures = await engine.figures()
    await engine.close()
    assert figures is not None
    assert (figures.queued, figures.running, figures.tokens) == (1, 5, None)


@pytest.mark.parametrize("value", [b"NaN", b"+Inf", b"-1", b"1e300", b"many", b"1.7"])
def test_a_figure_that_is_no_count_closes_no_engine(value: bytes) -> None:
    read = metrics.read(b"tgi_queue_size " + value + b"\n", metrics.TGI, at=0)
    assert read.queued in (0, 1)


def test_a_name_within_another_does_not_count() -> None:
    page = b"# tgi_queue_size 4\nold_tgi_queue_size 5\ntgi_queue_size_total 6\n"
    assert metrics.read(page, metrics.TGI, at=0).queued is None
