"""Redis: it answers, knows the commands that are used, and takes the right streams away first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from infra.checks.findings import ASK_SECONDS_MAX, Finding
from infra.settings import Settings

VERSION_MIN = (6, 2)
"""SET with GET and an expiry, which a recorder's sign of life needs."""
POLICIES = ("noeviction", "volatile-ttl", "volatile-lru", "allkeys-lru")
"""Those that take streams first which nobody reads, or none. A stream that is taken away in
mid-answer is written again, but its readers go through Kafka meanwhile."""


def redis(settings: Settings) -> Iterator[Finding]:
    """Live streams."""
    from redis import Redis, RedisError

    try:
        with Redis.from_url(settings.redis_url, socket_timeout=ASK_SECONDS_MAX) as client:
            told = client.info("everything")
    except (RedisError, OSError) as problem:
        yield Finding(f"Redis: {problem}", "Start it, or correct THALWEG_REDIS.")
        return
    yield from fitness(told)


def fitness(told: Mapping[str, object]) -> Iterator[Finding]:
    """What its INFO says."""
    version = str(told.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    least = ".".join(str(part) for part in VERSION_MIN)
    old = "" if numbers >= VERSION_MIN else f"Use {least} or newer."
    yield Finding(f"Redis answers (version {version})", old)
    if int(str(told.get("cluster_enabled", 0))):
        todo = "Use one without cluster mode: one process writes and publishes streams of all keys."
        yield Finding("Redis is in cluster mode", todo)
    policy = str(told.get("maxmemory_policy", "noeviction"))
    fits = f"Set it to volatile-ttl: {policy} may take away a stream that is being read."
    yield Finding(f"maxmemory-policy is {policy}", "" if policy in POLICIES else fits)
    memory = int(str(told.get("maxmemory", 0)))
    bound = "" if memory else "Set it, so that streams cannot take all memory of the machine."
    yield Finding(
        f"maxmemory is {memory / 1e6:.0f} MB" if memory else "maxmemory is not set", bound
    )
