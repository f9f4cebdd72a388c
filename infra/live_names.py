"""What both sides of the live streams share: names in Redis, and how long it may take."""

from uuid import UUID

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

CONNECTIONS_MAX = 16
"""Of one process, beside the subscription: each carries a command for some 0.2 ms."""
REPLY_SECONDS_MAX = 1.0
"""A Redis that takes longer counts as away: Kafka serves instead."""
KEPT_UP_SECONDS = 2.0
"""A recorder that was not heard of for this long does not keep its streams up to date."""

FAILURES = (RedisError, OSError, TimeoutError)


def client_of(url: str) -> Redis:
    """Commands have no bound of their own: give each one with `asyncio.timeout`.

    redis-py's own goes through `asyncio.wait_for`, which up to Python 3.11 loses a cancellation
    that comes at the moment of the reply; whoever was cancelled then goes on for ever.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=REPLY_SECONDS_MAX,
        socket_timeout=None,
        socket_connect_timeout=REPLY_SECONDS_MAX,
        protocol=2,
    )
    return Redis.from_pool(pool)


def stream_name(prefix: str, answer: UUID) -> str:
    return f"{prefix}:stream:{answer}"


def channel_name(prefix: str, answer: UUID) -> str:
    return f"{prefix}:live:{answer}"


def kept_up_name(prefix: str, partition: int) -> str:
    return f"{prefix}:kept-up:{partition}"
