"""How several workers share an engine's places without anybody who deals them out.

The places of an engine are dealt to partition numbers, and who owns a partition has its places: the
consumer group's assignment alone says who may use how many, and the shares sum to the engine's
bound by themselves. A small engine has fewer places than there are partitions, and a worker may
have none of them: then it borrows (see `lending`).
"""

import zlib
from collections.abc import Collection


def share(engine: str, places: int, owned: Collection[int], partitions: int) -> int:
    """How many of an engine's `places` belong to the partitions `owned`, of `partitions` in all.

    Each engine begins at another partition, so that small ones do not all go to the same worker.
    """
    first = zlib.crc32(engine.encode()) % partitions
    return sum(_places((number - first) % partitions, places, partitions) for number in owned)


def _places(number: int, places: int, partitions: int) -> int:
    """Of the partition at this place in the round: spread evenly, summing to `places`."""
    return (number + 1) * places // partitions - number * places // partitions
