"""A coroutine that was begun goes on in another task as if nothing had happened."""

import asyncio

import pytest

from infra.answers_worker.eager import begin


async def test_what_does_not_wait_has_ended() -> None:
    done: list[str] = []

    async def work() -> None:
        async with asyncio.Lock():
            done.append("all")

    assert begin(work()) is None
    assert done == ["all"]


async def test_what_waits_goes_on_in_the_task_that_awaits_the_rest() -> None:
    first, second = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def work() -> str:
        await first.wait()
        done.append("first")
        await second.wait()
        return "second"

    rest = begin(work())
    assert rest is not None
    task = asyncio.create_task(rest)
    first.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert done == ["first"]
    second.set()
    assert await task == "second"


async def test_a_cancellation_reaches_it_and_its_error_comes_out() -> None:
    seen: list[str] = []

    async def cancelled() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def failing() -> None:
        await asyncio.sleep(0)
        raise LookupError("late")

    rest = begin(cancelled())
    assert rest is not None
    task = asyncio.create_task(rest)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]
    rest = begin(failing())
    assert rest is not None
    with pytest.raises(LookupError):
        await rest
