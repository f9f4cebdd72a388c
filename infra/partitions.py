"""Which partition a key leads to: the same on every topic, for every client of ours."""

from uuid import UUID

from aiokafka.partitioner import murmur2

_POSITIVE = 0x7FFFFFFF


def partition_of(key: UUID | str, partitions: int) -> int:
    """What Kafka's own clients and librdkafka's `murmur2_random` choose for this key."""
    hashed: int = murmur2(str(key).encode())
    return (hashed & _POSITIVE) % partitions
