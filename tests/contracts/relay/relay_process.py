"""A relay to be killed: `python -m tests.contracts.relay.relay_process URL KAFKA PREFIX SECONDS`.

SECONDS is the length of its lease. Says "leads" or "waits" whenever that changes.
"""

import asyncio
import signal
import sys

from events.topics import Topics
from infra.kafka.producer import Producer
from infra.relay import Relay


async def main() -> None:
    url, kafka, prefix, lease = sys.argv[1:]
    producer = Producer(kafka)
    relay = Relay("conversations", url, producer, Topics(prefix), lease_seconds_max=float(lease))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, relay.stop)
    running = asyncio.create_task(relay.run())
    led = False
    while not running.done():
        if relay.leads != led:
            led = relay.leads
            sys.stdout.write("leads\n" if led else "waits\n")
            sys.stdout.flush()
        await asyncio.wait([running], timeout=0.005)
    await producer.close()
    await running


asyncio.run(main())
