"""A process that appends: `python -m tests.contracts.event_store.writing_process URL NUMBER`."""

import asyncio
import sys

from events.ids import fresh_id
from infra.event_store import open_conversation_store
from tests.contracts.event_store.appends import append, message


async def main() -> None:
    url, number = sys.argv[1], int(sys.argv[2])
    store = await open_conversation_store(url)
    waiting = iter(range(number))

    async def submit() -> None:
        for _ in waiting:
            stream = fresh_id()
            await store.append(append(*(message(stream) for _ in range(3)), stream=stream))

    await asyncio.gather(*(submit() for _ in range(4)))
    await store.close()


asyncio.run(main())
