"""A supervisor of stand-in roles with a real Redis, as a program: `supervise.py HOME`."""

import asyncio
import sys
from pathlib import Path

from infra.home import hold
from infra.settings import Settings
from infra.supervisor import Supervisor
from tests.fixtures.processes import free_port

ROLES = ("relay", "gateway", "answers-1", "answers-2")
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Printed:
    def state(self, name: str, state: str) -> None:
        show(f"{name}: {state}")

    def say(self, text: str) -> None:
        show(text)


def settings(home: Path) -> Settings:
    return Settings(
        home=home,
        port=free_port(),
        kafka="127.0.0.1:1",
        conversations_database_url=NOWHERE,
        accounts_database_url=NOWHERE,
        projections_database_url=NOWHERE,
        sagas_database_url=NOWHERE,
        restart_delay_seconds_max=0.2,
        stop_seconds_max=3,
        spare_after_seconds=0,
    )


def supervisor(home: Path) -> Supervisor:
    return Supervisor(
        settings(home),
        Printed(),
        roles=ROLES,
        command_of=lambda role: [sys.executable, "-m", "tests.infra.stand_in", role],
    )


async def forever(home: Path) -> None:
    await supervisor(home).start()
    show("ready")
    await asyncio.Event().wait()


if __name__ == "__main__":
    chosen = Path(sys.argv[1])
    with hold(chosen):
        asyncio.run(forever(chosen))
