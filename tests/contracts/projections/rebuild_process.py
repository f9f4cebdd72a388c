"""A rebuild in a process of its own, for tests that stop and kill it."""

import asyncio
import sys

from events.topics import Topics
from infra.rebuild import rebuild
from infra.settings import Settings

if __name__ == "__main__":
    kafka, url, prefix, name = sys.argv[1:]
    settings = Settings(
        kafka=kafka, projections_database_url=url, partitions=3, single_machine=True
    )
    asyncio.run(rebuild(settings, Topics(prefix=prefix), name))
