"""Roles are made of tasks that notice each other's ends."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from infra.wiring_gateway import run_beside

SECONDS_MAX = 30


async def test_a_task_beside_that_fails_ends_what_it_stands_beside() -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    finished = asyncio.Event()

    async def role() -> None:
        async with asyncio.timeout(SECONDS_MAX), AsyncExitStack() as stack:
            stack.callback(finished.set)
            await run_beside(stack, fails(), name="fails")
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as raised:
        await role()
    assert raised.group_contains(ZeroDivisionError)
    assert finished.is_set()


async def test_a_task_beside_ends_with_what_it_stands_beside() -> None:
    ended = asyncio.Event()

    async def for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with asyncio.timeout(SECONDS_MAX), AsyncExitStack() as stack:
        await run_beside(stack, for_ever(), name="for ever")
        await asyncio.sleep(0)
    assert ended.is_set()
