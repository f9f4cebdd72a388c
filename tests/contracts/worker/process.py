"""A worker as a process: `python -m tests.contracts.worker.process PREFIX`."""

import asyncio
import contextlib
import signal
import sys

from events.topics import Topics
from infra.answers_worker import run_answers
from infra.event_store import open_conversation_store
from infra.settings import Settings
from infra.telemetry import configure_logging


async def main(prefix: str) -> None:
    configure_logging("answers", level="debug", form="text")
    settings = Settings.load()
    store = await open_conversation_store(settings.database_url("conversations"))
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await run_answers(settings, Topics(prefix), store)
    finally:
        await store.close()


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main(sys.argv[1]))
