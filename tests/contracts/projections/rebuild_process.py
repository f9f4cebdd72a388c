"""A rebuild in a process of its own, for tests that stop and kill it."""

import asyncio
import os
import sys

import infra.rebuild_builder
from events.topics import Topics
from infra.rebuild import rebuild
from infra.settings import Settings

if __name__ == "__main__":
    kafka, url, prefix, name, *rest = sys.argv[1:]
    if rest == ["side by side"]:
        infra.rebuild_builder.EVENTS_PER_FILLER_MIN = 10
        os.cpu_count = lambda: 2
    settings = Settings(
        kafka=kafka, projections_database_url=url, partitions=3, single_machine=True
    )
    asyncio.run(rebuild(settings, Topics(prefix=prefix), name))
