"""What several tests here do with readers."""

import time

from infra.kafka.consumer import GroupReader, LogReader, Record

SECONDS_MAX = 60.0


async def read(reader: LogReader | GroupReader, count: int) -> list[Record]:
    """Exactly the next `count` records or more; fails after SECONDS_MAX."""
    until = time.monotonic() + SECONDS_MAX
    records: list[Record] = []
    while len(records) < count:
        assert time.monotonic() < until, f"only {len(records)} of {count} records came"
        records += await reader.read(seconds_max=0.2)
    return records
