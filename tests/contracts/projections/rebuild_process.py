"""A rebuild in a process of its own that gets half of the way, for tests that kill it there.

Alone it stands still with its first batch; `side by side` those stand still that fill it in.
"""

import asyncio
import os
import signal
import sys
from functools import partial
from typing import NoReturn

import infra.rebuild_builder
from events.topics import Topics
from infra.rebuild import rebuild
from infra.settings import Settings


def stands_still(*_: object) -> NoReturn:
    while True:
        signal.pause()


if __name__ == "__main__":
    kafka, url, prefix, name, *rest = sys.argv[1:]
    settings = Settings(
        kafka=kafka, projections_database_url=url, partitions=3, single_machine=True
    )
    rebuilding = partial(rebuild, settings, Topics(prefix=prefix), name)
    if rest == ["side by side"]:
        infra.rebuild_builder.EVENTS_PER_FILLER_MIN = 10
        infra.rebuild_builder.fill_part = stands_still
        os.cpu_count = lambda: 2
        asyncio.run(rebuilding())
    else:
        asyncio.run(rebuilding(progress=stands_still))
