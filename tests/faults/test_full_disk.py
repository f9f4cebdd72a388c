"""The disk under Postgres, Kafka and the log files is full for a while: commands are refused with
what to do or kept, nothing that was accepted is lost, and all goes on once there is room."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.apparatus import World
from tests.faults.apparatus.disk import Disk, small_disk
from tests.faults.apparatus.door import ready, refusals
from tests.faults.apparatus.round import play
from tests.faults.engines import Engines
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg

LONG = os.environ.get("FAULTS_LONG") == "1"
FULL_SECONDS = 60 if LONG else 8
MEGABYTES = 512
TEXT = " " + "x" * 60_000
"""With each message, so that there is soon no room for the next page of a table."""
WHERE = ("", "postgres", "kafka") if LONG else ("",)
READY_SECONDS_MAX = 90


@pytest.fixture(params=WHERE, ids=lambda folder: folder or "everything")
def installed(
    request: pytest.FixtureRequest, tmp_path: Path, engines: Engines
) -> Iterator[tuple[RunningThalweg, Disk]]:
    home = tmp_path / "home"
    with (
        small_disk(home / request.param, megabytes=MEGABYTES) as disk,
        RunningThalweg(home, engines=engines.setting) as thalweg,
    ):
        yield thalweg, disk


async def test_a_full_disk_loses_nothing(installed: tuple[RunningThalweg, Disk]) -> None:
    thalweg, disk = installed
    roles = {role: thalweg.pids(role) for role in ("gateway", "recorder", "projections", "relay")}

    async def fault(world: World) -> None:
        taken = disk.fill()
        began = time.monotonic()
        try:
            refused = await refusals(world, FULL_SECONDS)
        finally:
            disk.free()
        world.note(f"{taken} bytes were taken; {len(refused)} commands were refused: {refused[:1]}")
        assert all(told.startswith(("503", "429")) for told in refused), refused
        assert {role: thalweg.pids(role) for role in roles} == roles
        wait_for(thalweg.is_ready, "answers to be possible", seconds_max=READY_SECONDS_MAX)
        world.note(f"ready again {time.monotonic() - began - FULL_SECONDS:.1f} s after")
        assert (await ready(thalweg))[0] == 200

    here = await play(thalweg, fault, more_text=TEXT)
    print(here.notes)  # noqa: T201
