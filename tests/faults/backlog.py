"""A long answer with many short ones behind it in its partition, all of them said, and then a kill:
who takes over has the short ones before it, and must not say them again or wait for them."""

import asyncio
from random import Random
from uuid import UUID

import psycopg

from events.ids import derived_id
from infra.partitions import partition_of
from infra.settings import Settings
from tests.faults.door import Command, Door
from tests.faults.engines import TGI
from tests.faults.strikes import killed
from tests.faults.world import World

SHORT, LONG = 200, 2_000
"""Short answers behind the long one, of a round in either form."""
SHORT_TOKENS = 20
AT_ONCE = 8
"""Clients that ask for the short ones."""
LONG_DELAY_MS = 20
TOKENS_PER_SHORT = 20
"""Of the long answer for each short one, so that it lasts: 20 ms each, twice what a short one takes
on two cores that have other work besides."""
TOKENS_MIN = 600
TENANT = "SELECT tenant FROM conversations.commands LIMIT 1"


async def behind_a_long_answer(world: World) -> None:
    settings = world.settings
    tenant = await asyncio.to_thread(tenant_of, settings)
    partition = world.random.randrange(settings.partitions)
    count = LONG if world.long else SHORT
    long_one = world.door()
    tokens = min(TOKENS_MIN + TOKENS_PER_SHORT * count, settings.answer_tokens_max - 1)
    answer = await _ask(long_one, world.random, tenant, partition, settings, tokens, LONG_DELAY_MS)
    following = asyncio.create_task(long_one.follow(answer))
    try:
        left = iter(range(count))

        async def ask_some(door: Door) -> None:
            for _ in left:
                short = await _ask(door, world.random, tenant, partition, settings, SHORT_TOKENS, 0)
                await door.follow(short)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(ask_some(world.door()))
        is_open = not following.done()
        world.note(f"{count} answers behind one that {'goes on' if is_open else 'has ended'}")
        world.strike()
        await killed("answers")(world)
        path = f"/api/answers/{answer}/cancel"
        await asyncio.sleep(world.seconds(4, 6))
        facts = {"answer": answer, "conversation": str(_conversation_of(long_one))}
        cancel = Command("cancel", "POST", path, {}, _key("cancel", world.random), facts)
        await long_one.insist(cancel)
        await following
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def tenant_of(settings: Settings) -> UUID:
    """There is one, whose commands all are."""
    with psycopg.connect(settings.database_url("conversations")) as connection:
        row = connection.execute(TENANT).fetchone()
    assert row is not None
    tenant: UUID = row[0]
    return tenant


async def _ask(
    door: Door,
    random: Random,
    tenant: UUID,
    partition: int,
    settings: Settings,
    tokens: int,
    delay_ms: int,
) -> str:
    """Starts a conversation in that partition, and asks for an answer; returns its id."""
    while True:
        key = _key("start", random)
        conversation = derived_id(tenant, f"key:{key}", "conversation")
        if partition_of(conversation, settings.partitions) == partition:
            break
    started = await door.insist(Command("start", "POST", "/api/conversations", {}, key))
    assert started.body["conversation"] == str(conversation)
    content = f"tokens={tokens} delay_ms={delay_ms}"
    body = {"content": content, "parent": None, "model": TGI, "max_tokens": tokens + 1}
    facts = {"conversation": str(conversation), "content": content, "tokens": tokens}
    path = f"/api/conversations/{conversation}/messages"
    post = Command("post", "POST", path, body, _key("post", random), facts)
    return str((await door.insist(post)).body["answer"])


def _conversation_of(door: Door) -> str:
    return next(str(one.facts["conversation"]) for one in door.accepted.values() if one.facts)


def _key(what: str, random: Random) -> str:
    return f"{what}-{random.getrandbits(64):016x}"
