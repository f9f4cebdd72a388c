"""Tasks that go on beside a fault."""

import asyncio


async def stop(task: "asyncio.Task[None]") -> None:
    """Ends a task that never ends by itself; raises why, if it has."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
