"""Asks Kafka about a group, again and again, and prints each new answer: `... BOOTSTRAP GROUP`."""

import asyncio
import sys

from infra.health import GroupHealth

ASKERS = 4
BETWEEN_SECONDS = 0.02


async def ask(check: GroupHealth, group: str) -> None:
    said = ""
    while True:
        try:
            found = await check.check(group)()
        except Exception as error:
            found = type(error).__name__
        if found != said:
            sys.stdout.write(f"{found}\n")
            sys.stdout.flush()
            said = found
        await asyncio.sleep(BETWEEN_SECONDS)


async def main(bootstrap: str, group: str) -> None:
    check = GroupHealth(bootstrap)
    await asyncio.gather(*(ask(check, group) for _ in range(ASKERS)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
