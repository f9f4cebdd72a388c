"""A worker that holds as much as it may, on real Kafka: what is urgent comes all the same."""

from events.conversations import Band, EndKind
from infra.engine_addresses import EngineAddress
from infra.servers.ports import free_port
from tests.contracts.worker.asking import Installation, numbers
from tests.contracts.worker.conftest import StartWorker

WINDOW = 20
FLOOD = 10 * WINDOW
"""More than the window and what is fetched at once besides."""
SECONDS_MAX = 60.0
DEADLINE_SECONDS = 600.0
"""What is stuck behind the flood would be there until then."""


async def test_a_full_window_of_flex_stalls_neither_tokens_nor_urgent_requests_nor_cancels(
    installation: Installation, start_worker: StartWorker
) -> None:
    """The flood is for an engine that is not there: nothing of it ends by itself."""
    away = EngineAddress.parse(f"tgi+http://127.0.0.1:{free_port()}")
    bounds = dict.fromkeys(
        (
            "unfinished_requests_max",
            "unanswered_requests_max",
            "unanswered_requests_per_tenant_max",
        ),
        WINDOW,
    )
    engines = (*installation.settings.engines, away)
    changed = {"engines": engines, "no_capacity_seconds_max": DEADLINE_SECONDS, **bounds}
    installation.settings = installation.settings.model_copy(update=changed)
    start_worker()
    stream, speaking, _ = await installation.ask(
        "tokens=1000 delay_ms=200", seconds=DEADLINE_SECONDS
    )
    await installation.until(lambda: len(installation.log.chunks(speaking)) > 3, "some text")
    flood = [
        await installation.ask(
            "tokens=1", band=Band.FLEX, model="elsewhere", seconds=DEADLINE_SECONDS
        )
        for _ in range(FLOOD)
    ]

    _, urgent, _ = await installation.ask("tokens=5", band=Band.PRIORITY)
    said = await installation.ended(urgent, seconds_max=SECONDS_MAX)
    assert said.text == numbers(5)

    before = len(installation.log.chunks(speaking))
    await installation.until(
        lambda: len(installation.log.chunks(speaking)) > before, "more", seconds_max=SECONDS_MAX
    )
    await installation.cancel(stream, speaking)
    said = await installation.ended(speaking, seconds_max=SECONDS_MAX)
    assert said.end is not None
    assert said.end.kind is EndKind.CANCELLED

    waiting_stream, waiting, _ = flood[0]
    await installation.cancel(waiting_stream, waiting)
    said = await installation.ended(waiting, seconds_max=SECONDS_MAX)
    assert said.end is not None
    assert said.end.kind is EndKind.CANCELLED
    assert all(installation.log.of(answer).end is None for _, answer, _ in flood[1:])
