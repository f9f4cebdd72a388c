"""A supervisor of stand-in roles with a real Redis, as a program: `supervise.py HOME`."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from infra.home import Part, hold
from infra.servers.ports import free_port
from infra.settings import Settings
from infra.supervisor import Display, Supervisor

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


def settings(home: Path, metrics_port: int | None = None) -> Settings:
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
        metrics_port=metrics_port,
    )


def supervisor(
    home: Path, display: Display | None = None, metrics_port: int | None = None
) -> Supervisor:
    return Supervisor(
        settings(home, metrics_port),
        display or Printed(),
        roles=ROLES,
        module="tests.infra.stand_in",
    )


@asynccontextmanager
async def started(
    home: Path, display: Display | None = None, metrics_port: int | None = None
) -> AsyncIterator[Supervisor]:
    """In this process."""
    with hold(home):
        one = supervisor(home, display, metrics_port)
        try:
            await one.start()
            await until(lambda: all(part.pid for part in one.parts))
            yield one
        finally:
            await one.stop()


async def until(condition: Callable[[], object], seconds_max: float = 60) -> None:
    async with asyncio.timeout(seconds_max):
        while not condition():  # noqa: ASYNC110 - processes tell nobody
            await asyncio.sleep(0.02)


def part(one: Supervisor, role: str, which: int = 0) -> Part:
    return [part for part in one.parts if part.role == role][which]


def pid_of(one: Supervisor, role: str) -> int:
    pid = part(one, role).pid
    assert pid is not None
    return pid


async def forever(home: Path) -> None:
    one = supervisor(home)
    await one.start()
    await until(lambda: all(part.pid for part in one.parts))
    show("ready")
    await asyncio.Event().wait()


if __name__ == "__main__":
    chosen = Path(sys.argv[1])
    with hold(chosen):
        asyncio.run(forever(chosen))
