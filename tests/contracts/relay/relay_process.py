"""A relay to be killed: `python -m tests.contracts.relay.relay_process URL KAFKA PREFIX`.

Says "leads" on its output whenever it begins to.
"""

import asyncio
import signal
import sys

from events.topics import Topics
from infra.kafka.producer import Producer
from infra.relay import Relay


async def main() -> None:
    url, kafka, prefix = sys.argv[1:]
    producer = Producer(kafka)
    relay = Relay("conversations", url, producer, Topics(prefix), lease_seconds_max=1.0)
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
